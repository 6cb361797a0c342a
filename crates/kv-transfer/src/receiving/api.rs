//! What goes in and out of the receiving side, and its bounds.

use super::gate::Gate;
use crate::HandoffError;
use crate::message::{FirstToken, Message};
use estafette_types::{BlockId, SequenceId, TransferId};
use std::sync::Arc;
use std::time::Duration;

/// A connection of the receiver.
pub(crate) type ConnId = u64;

/// What the engine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiverEvent {
    /// A sender wants to push an expected transfer: answer with `grant` or `refuse`.
    GrantRequested {
        /// Which.
        transfer: TransferId,
        /// Who waits for it.
        sequence: SequenceId,
    },
    /// Every granted unit is in the pool and verified; nobody writes to the blocks any more.
    Completed {
        /// Which.
        transfer: TransferId,
        /// Who waits for it.
        sequence: SequenceId,
        /// What the prefill worker sampled.
        first_token: FirstToken,
    },
    /// The transfer is dead. Its blocks may be reused when `revoke` says so.
    Failed {
        /// Which.
        transfer: TransferId,
        /// Who waits for it.
        sequence: SequenceId,
        /// Why.
        error: HandoffError,
        /// So many leading blocks of the prompt need not be computed: of each, every unit that was granted
        /// has come and been verified. To be used only once the blocks may be reused.
        verified_blocks: u32,
    },
}

/// Bounds of the receiver.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverLimits {
    /// Transfers that are expected or running at once.
    pub transfers_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// How long a push waits for its decode leg.
    pub unknown_wait: Duration,
    /// How long a connection may take to finish a frame that it began, or to take one from us.
    pub io_timeout: Duration,
    /// Bytes of parts that a sender may have unacknowledged.
    pub credit_bytes: u64,
    /// Units that one transfer may ask for again, because they came damaged or not at all.
    pub resend_units: usize,
}

impl Default for ReceiverLimits {
    fn default() -> Self {
        Self {
            transfers_max: 1024,
            connections_max: 256,
            unknown_wait: Duration::from_secs(5),
            io_timeout: Duration::from_secs(10),
            credit_bytes: 16 << 20,
            resend_units: 64,
        }
    }
}

/// What the shell is to do.
#[derive(Clone, Debug)]
pub(crate) enum ReceiveAction {
    Send(ConnId, Message),
    Event(ReceiverEvent),
    /// No one can write to the blocks of a revoked transfer any more.
    Fenced(TransferId),
}

/// Where the units of a part belong.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// Of the transfer; `None` when it is not live and everything is thrown away.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Per unit: the block to store it in, or nothing when it is not wanted.
    pub(crate) to: Vec<Option<BlockId>>,
}
