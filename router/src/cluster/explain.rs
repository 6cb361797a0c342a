//! What would become of a request, and why.

use super::registry::Registry;
use estafette_kv_index::{Matches, WorkerSlot};
use estafette_routing::{Decision, Explanation, NoChoice, Request};
use std::collections::BTreeMap;

/// A decision and everything that it rests on.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) decision: Result<Decision, NoChoice>,
    pub(crate) terms: Explanation,
    pub(crate) fate: Fate,
    /// Requests that wait in the router.
    pub(crate) waiting: usize,
    /// Of the workers, by slot.
    pub(crate) names: BTreeMap<u32, String>,
}

/// What becomes of a request that comes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to the workers that were chosen.
    Sent,
    /// It waits in the router until its turn comes.
    Waits,
    /// The client is told to come back.
    Refused,
}

impl Fate {
    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Waits => "waits",
            Self::Refused => "refused",
        }
    }
}

impl Registry {
    /// What [`Registry::choose`] would say now, with every term.
    pub(super) fn explain(&self, wanted: &Request, matches: &Matches) -> Explained {
        let cached = |slot| matches.blocks(WorkerSlot(slot));
        let decision = self.fleet.choose(wanted, cached, |_| true, &mut self.rng.clone());
        let fate = match &decision {
            Ok(_) if self.may_choose(None) => Fate::Sent,
            Ok(_) | Err(NoChoice::Saturated) if !self.room.is_full() => Fate::Waits,
            _ => Fate::Refused,
        };
        Explained {
            decision,
            fate,
            waiting: self.room.len(),
            terms: self.fleet.explain(wanted, cached),
            names: self.members().map(|m| (m.key.slot, m.key.id.to_string())).collect(),
        }
    }
}
