//! One transfer at the receiver: how far it is and what has come.

use super::api::ConnId;
use super::gate::Gate;
use crate::bitmap::Bitmap;
use crate::message::{FirstToken, Part};
use crate::runs::Destinations;
use crate::sending::unit_index;
use estafette_types::{BlockId, SequenceId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Peer {
    pub(super) conn: ConnId,
    pub(super) attempt: u64,
    pub(super) blocks: u32,
    pub(super) one_sided: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Granted {
    pub(super) peer: Peer,
    pub(super) epoch: u64,
    pub(super) to: Destinations,
    pub(super) units: usize,
    pub(super) counted: Bitmap,
    /// Units that were asked for again and have not come, with the round that asked.
    pub(super) asked: BTreeMap<usize, u32>,
    pub(super) round: u32,
    pub(super) resends_left: usize,
    pub(super) gate: Arc<Gate>,
    pub(super) commit: Option<FirstToken>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) enum Phase {
    /// The decode leg is here, the push is not.
    Expected,
    /// The push is here, the decode leg is not.
    Early(Peer),
    /// Both are here; the engine has been asked.
    Asked(Peer),
    /// Units may come.
    Filling(Granted),
    /// Dead, but the sender may still store.
    Revoking { conn: ConnId, attempt: u64 },
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Incoming {
    pub(super) phase: Phase,
    /// Who waits; nobody while the push is early.
    pub(super) sequence: Option<SequenceId>,
    pub(super) deadline: Instant,
}

/// What was there when a transfer ended.
pub(super) struct Ended {
    pub(super) sequence: Option<SequenceId>,
    pub(super) verified_blocks: u32,
}

impl Phase {
    /// The push that `conn` has for this transfer, if it is its connection.
    pub(super) fn attempt_on(&self, conn: ConnId) -> Option<u64> {
        let (of, attempt) = match self {
            Self::Expected => return None,
            Self::Early(peer) | Self::Asked(peer) => (peer.conn, peer.attempt),
            Self::Filling(granted) => (granted.peer.conn, granted.peer.attempt),
            Self::Revoking { conn, attempt } => (*conn, *attempt),
        };
        (of == conn).then_some(attempt)
    }
}

impl Granted {
    /// Where the unit of `part` in logical `block` belongs, if it is granted and has not come. A unit that was
    /// asked for again is only taken from the answer: an earlier copy may still be under way, and the
    /// answer is a store that has to be waited for.
    pub(super) fn wanted(&self, part: &Part, block: u32, groups: u32) -> Option<BlockId> {
        let index = unit_index(block, part.group, groups);
        let round = self.asked.get(&index).copied().unwrap_or(0);
        let wanted = !self.counted.contains(index) && round == part.round;
        self.to.get(&block).copied().filter(|_| wanted)
    }

    /// Leading blocks of the prompt of which every granted unit is counted.
    pub(super) fn verified_blocks(&self, groups: u32) -> u32 {
        let whole = |block: u32| {
            (0..groups).all(|group| self.counted.contains(unit_index(block, group, groups)))
        };
        self.to.keys().copied().find(|block| !whole(*block)).unwrap_or(self.peer.blocks)
    }
}
