//! What a worker says about itself: its cache, its load, its place in the cluster.

use crate::{BlockHash, Usage};
use std::{fmt, str::FromStr};

/// Which pool a worker belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs prompts and pushes their KV to a decode worker.
    Prefill,
    /// Streams tokens; prefills for itself where that is faster.
    Decode,
}

impl Role {
    /// The word used in flags, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Prefill, Self::Decode]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a role: prefill or decode"))
    }
}

/// A change of a worker's prefix cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvEvent {
    /// The block can now be shared.
    Stored(BlockHash),
    /// The block is gone.
    Removed(BlockHash),
    /// Every block is gone.
    Cleared,
}

/// The load of one rank after a scheduler step. Exact integers, never averages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadRecord {
    /// Sequences in the waiting queue.
    pub waiting_sequences: u64,
    /// Their prompt tokens that no cached block covers.
    pub waiting_prefill_tokens: u64,
    /// Sequences whose prompt is partly computed.
    pub prefilling_sequences: u64,
    /// Their prompt tokens still to compute.
    pub running_prefill_tokens: u64,
    /// Sequences producing tokens.
    pub decoding_sequences: u64,
    /// Tokens of KV that those sequences hold.
    pub decoding_tokens: u64,
    /// Blocks that can be had at once: unused, or cached and referenced by nobody.
    pub free_blocks: u64,
    /// Blocks of the pool.
    pub total_blocks: u64,
    /// Tokens done since the worker started.
    pub done: Usage,
    /// KV tokens that rows of prompts attended to since the worker started: a token at position i attends to i + 1. With the
    /// count of these rows in `done` it tells long contexts from short ones.
    pub prefill_attended: u64,
    /// Steps run since the worker started.
    pub steps: u64,
    /// How long the last step took, in microseconds.
    pub step_micros: u64,
}

impl LoadRecord {
    /// Sequences that are there, waiting ones too.
    pub fn sequences(&self) -> u64 {
        self.waiting_sequences + self.prefilling_sequences + self.decoding_sequences
    }
}
