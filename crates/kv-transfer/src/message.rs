//! The messages of the protocol, as the state machines see them.

use crate::{BlockRun, HandoffError, HandoffLayout};
use estafette_types::{Incarnation, TokenId, TransferId};
use std::time::Duration;

/// Version of the frames; must be equal on both sides.
pub(crate) const VERSION: u32 = 2;
/// The largest encoded header that is read.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The most blocks one prompt may have.
pub(crate) const PROMPT_BLOCKS_MAX: u32 = 1 << 16;
/// The most runs of one grant.
pub(crate) const RUNS_MAX: usize = 8 * 1024;
/// The most units of one part.
pub(crate) const PART_UNITS_MAX: usize = 4096;
/// The most units of one request to send units again.
pub(crate) const RESEND_UNITS_MAX: usize = 4096;
/// The longest time to live that is granted.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(3600);

/// What the prefill worker knows about the first token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstToken {
    /// The sampled token, at index 0 of the answer.
    pub token: TokenId,
    /// Its log-probability, when the request asked for it.
    pub logprob: Option<f32>,
}

/// One layer group of consecutive logical blocks, one checksum per block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which hand-off.
    pub(crate) transfer: TransferId,
    /// Under which grant.
    pub(crate) epoch: u64,
    /// Layer group.
    pub(crate) group: u32,
    /// First logical block.
    pub(crate) first_block: u32,
    /// 0, or the round of the [`Message::Resend`] that this answers.
    pub(crate) round: u32,
    /// Of each unit in order; their number is the number of units, at least 1.
    pub(crate) checksums: Vec<u64>,
}

/// The sender's introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// [`VERSION`] of the sender.
    pub(crate) version: u32,
    /// Who sends.
    pub(crate) sender: Incarnation,
    /// Whom it means.
    pub(crate) receiver: Incarnation,
    /// The sender's pool.
    pub(crate) layout: HandoffLayout,
    /// Of the running kernel; empty on TCP.
    pub(crate) boot_id: String,
}

/// Everything that can be in a frame. `proto/kv_handoff.proto` says what each means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Hello(Hello),
    Welcome {
        receiver: Incarnation,
        credit_bytes: u64,
        pool_bytes: u64,
    },
    Reject(HandoffError),
    Push {
        transfer: TransferId,
        attempt: u64,
        blocks: u32,
        ttl: Duration,
    },
    Grant {
        transfer: TransferId,
        attempt: u64,
        epoch: u64,
        runs: Vec<BlockRun>,
        units: u32,
        ttl: Duration,
    },
    Part(Part),
    Ack {
        bytes: u64,
    },
    Commit {
        transfer: TransferId,
        epoch: u64,
        first_token: FirstToken,
    },
    Done {
        transfer: TransferId,
        epoch: u64,
    },
    Resend {
        transfer: TransferId,
        epoch: u64,
        round: u32,
        group: u32,
        blocks: Vec<u32>,
    },
    Failed {
        transfer: TransferId,
        attempt: u64,
        error: HandoffError,
    },
    Stopped {
        transfer: TransferId,
        attempt: u64,
        error: HandoffError,
    },
}
