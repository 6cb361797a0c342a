//! Fingerprints of the machine's state, for the model check.

use super::{SendAction, Sending};
use crate::wire::encode;
use estafette_types::TransferId;
use std::hash::{Hash, Hasher};

impl Hash for Sending {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.in_flight, self.attempts, self.turn, &self.transfers).hash(state);
        self.actions.hash(state);
    }
}

impl Hash for SendAction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Message(message) => (0, encode(message)).hash(state),
            Self::Part(plan) => (1, plan).hash(state),
            Self::Outcome(transfer, result) => (2, transfer, result.is_ok()).hash(state),
        }
    }
}

impl Sending {
    /// The push of `transfer` that runs now.
    pub(crate) fn attempt_of(&self, transfer: TransferId) -> Option<u64> {
        self.transfers.get(&transfer).map(|out| out.attempt)
    }
}
