//! Which requests find a decode worker, without a look at any of them.

use super::{Fleet, FleetWorker};
use crate::Openings;
use crate::candidate::queue_full;
use estafette_types::Role;

impl Fleet {
    /// Which requests find a place among the workers that `allowed` lets pass. [`Fleet::choose`] has an answer for exactly
    /// those.
    pub fn openings(&self, allowed: impl Fn(u32) -> bool) -> Openings {
        let mut openings = Openings::default();
        for (slot, worker) in self.workers().filter(|(_, worker)| worker.streams()) {
            if allowed(slot) {
                let blocks = worker.load.total_blocks;
                openings.ever = openings.ever.max(blocks);
                if self.queue_has_room(slot, worker) {
                    openings.now = openings.now.max(blocks);
                }
            }
        }
        openings
    }

    /// Whether a decode worker could take a leg now.
    pub fn has_opening(&self, slot: u32) -> bool {
        let open = |worker: &FleetWorker| worker.streams() && self.queue_has_room(slot, worker);
        self.worker(slot).is_some_and(open)
    }

    fn queue_has_room(&self, slot: u32, worker: &FleetWorker) -> bool {
        !queue_full(&worker.load, self.receipts.pending(slot), worker.max_waiting())
    }
}

impl FleetWorker {
    /// It is a decode worker that can be chosen.
    fn streams(&self) -> bool {
        self.traits.role == Role::Decode && self.can_be_chosen()
    }
}

#[cfg(test)]
mod tests;
