//! What the decision knows about the request and about each worker, and which workers cannot take it at all.

use crate::standing::Standing;

/// The request, as far as the choice depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of a block.
    pub block_size: u32,
    /// The longest answer that was asked for.
    pub max_tokens: u32,
    /// Hash of the session that it belongs to, if it says so.
    pub session: Option<u64>,
}

/// A worker that is known well enough to be chosen: its snapshot is complete. A worker without a load record must be
/// left out, because its zeros would look like an idle worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) slot: u32,
    /// What is known of it, whatever the request.
    pub(crate) standing: &'a Standing,
    /// Blocks of this prompt that it holds, from the first one without a hole.
    pub(crate) cached_blocks: u32,
    /// How much the request's session belongs here: the highest one is preferred.
    pub(crate) affinity: u64,
}

/// Why a worker cannot take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// It is leaving.
    Draining,
    /// It would refuse: every place in its queue is taken.
    QueueFull,
    /// Its whole pool does not hold the prompt and one token.
    TooSmall,
}

impl Filtered {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::QueueFull => "queue_full",
            Self::TooSmall => "too_small",
        }
    }
}

impl Request {
    /// Tokens to compute on a worker that holds the first `cached_blocks`. Never 0: the last token of a prompt is always
    /// computed, since its result gives the first token of the answer.
    pub fn uncached_tokens(&self, cached_blocks: u32) -> u32 {
        self.prompt_tokens.max(1) - cached_blocks.min(self.cacheable_blocks()) * self.block_size
    }

    /// Full blocks in front of the last token.
    pub(crate) fn cacheable_blocks(&self) -> u32 {
        self.prompt_tokens.saturating_sub(1) / self.block_size.max(1)
    }

    /// Blocks that the prompt and the first token take.
    pub fn blocks(&self) -> u64 {
        (u64::from(self.prompt_tokens) + 1).div_ceil(u64::from(self.block_size.max(1)))
    }
}
