//! Which requests find a decode worker, without a look at any of them.

use super::Fleet;
use crate::Openings;
use crate::standing::Standing;
use estafette_types::Role;

impl Fleet {
    /// Which requests find a place among the workers that `allowed` lets pass. [`Fleet::choose`] has an answer for exactly
    /// those.
    pub fn openings(&self, allowed: impl Fn(u32) -> bool) -> Openings {
        let mut openings = Openings::default();
        for slot in 0..self.standings.len() as u32 {
            let Some(standing) = self.streams(slot).filter(|_| allowed(slot)) else { continue };
            openings.ever = openings.ever.max(standing.total_blocks);
            if !standing.queue_full {
                openings.now = openings.now.max(standing.total_blocks);
            }
        }
        openings
    }

    /// Whether a decode worker could take a leg now.
    pub fn has_opening(&self, slot: u32) -> bool {
        self.streams(slot).is_some_and(|standing| !standing.queue_full)
    }

    /// A decode worker that can be chosen.
    fn streams(&self, slot: u32) -> Option<&Standing> {
        let (role, standing) = self.standings.get(slot as usize)?.as_ref()?;
        (*role == Role::Decode && !standing.draining).then_some(standing)
    }
}

#[cfg(test)]
mod tests;
