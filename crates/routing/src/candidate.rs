//! What the decision knows about the request and about each worker, and which workers cannot take it at all.

use crate::{Pending, StepCost};
use estafette_types::LoadRecord;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The caller's name for it.
    pub slot: u32,
    /// Its newest load record.
    pub load: LoadRecord,
    /// It is leaving.
    pub draining: bool,
    /// Blocks of this prompt that it holds, from the first one without a hole.
    pub cached_blocks: u32,
    /// The most sequences it runs at once.
    pub max_num_seqs: u32,
    /// The most sequences it lets wait.
    pub max_waiting: u32,
    /// Steps that one prompt token takes: one over the most tokens of a step.
    pub steps_per_token: f64,
    /// Dispatched to it and not yet in `load`: [`crate::Receipts::pending`].
    pub pending: Pending,
    /// Its step-time curve: [`crate::StepModel::cost`].
    pub step: StepCost,
    /// KV tokens that a row of a prompt attended to there, on average.
    pub mean_attended: f64,
    /// How much the request's session belongs here: the highest one is preferred.
    pub affinity: u64,
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

impl Candidate {
    /// Why it cannot take `request`, if it cannot. Counts exactly as the worker's scheduler does.
    pub fn filtered(&self, request: &Request) -> Option<Filtered> {
        self.filtered_for(request.blocks())
    }

    pub(crate) fn filtered_for(&self, blocks: u64) -> Option<Filtered> {
        if self.draining {
            return Some(Filtered::Draining);
        }
        if blocks > self.load.total_blocks {
            return Some(Filtered::TooSmall);
        }
        queue_full(&self.load, self.pending, self.max_waiting).then_some(Filtered::QueueFull)
    }

    /// Sequences that are there or on their way.
    pub(crate) fn sequences(&self) -> u64 {
        let load = &self.load;
        load.waiting_sequences
            + load.prefilling_sequences
            + load.decoding_sequences
            + self.pending.sequences
    }

    /// Prompt tokens that are ahead of a request that comes now.
    pub(crate) fn prefill_tokens_ahead(&self) -> u64 {
        let load = &self.load;
        load.waiting_prefill_tokens + load.running_prefill_tokens + self.pending.prefill_tokens
    }
}

/// A worker would refuse: what waits there and what is on its way take every place of its queue.
pub(crate) fn queue_full(load: &LoadRecord, pending: Pending, max_waiting: u32) -> bool {
    load.waiting_sequences + pending.sequences >= u64::from(max_waiting)
}
