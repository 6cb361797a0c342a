//! Copies and fingerprints of the machine's state, for the model check.

use super::transfer::Granted;
use super::{ConnId, Gate, Receiving};
use crate::message::FirstToken;
use estafette_types::TransferId;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A copy has gates of its own.
impl Clone for Granted {
    fn clone(&self) -> Self {
        Self {
            peer: self.peer,
            epoch: self.epoch,
            to: self.to.clone(),
            units: self.units,
            counted: self.counted.clone(),
            asked: self.asked.clone(),
            round: self.round,
            resends_left: self.resends_left,
            gate: self.gate.copied(),
            commit: self.commit,
        }
    }
}

impl Gate {
    pub(crate) fn copied(&self) -> Arc<Self> {
        let copy = Self::open();
        if self.enter().is_none() {
            copy.shut();
        }
        Arc::new(copy)
    }
}

impl Hash for Gate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.enter().is_some().hash(state);
    }
}

impl Hash for FirstToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.token, self.logprob.map(f32::to_bits)).hash(state);
    }
}

impl Hash for Receiving {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.actions.is_empty(), "actions are carried out at once");
        (self.epoch, &self.transfers).hash(state);
    }
}

impl Receiving {
    /// The gate of this copy that is what `gate` is in `original`.
    pub(crate) fn gate_like(&self, original: &Self, gate: &Arc<Gate>) -> Arc<Gate> {
        let same = |(id, i): (&TransferId, &super::Incoming)| match &i.phase {
            super::Phase::Filling(granted) if Arc::ptr_eq(&granted.gate, gate) => Some(*id),
            _ => None,
        };
        let transfer = original.transfers.iter().find_map(same);
        let mine = transfer.and_then(|id| match &self.transfers.get(&id)?.phase {
            super::Phase::Filling(granted) => Some(granted.gate.clone()),
            _ => None,
        });
        mine.unwrap_or_else(|| gate.copied())
    }

    /// Connection and epoch of the grant that `transfer` has.
    pub(crate) fn grant_of(&mut self, transfer: TransferId) -> Option<(ConnId, u64)> {
        self.granted(transfer).map(|granted| (granted.peer.conn, granted.epoch))
    }
}
