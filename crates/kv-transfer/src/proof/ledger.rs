//! What is true of the slots of one receiver's pool, whatever its state machine believes.

use super::invariants::{Violation, foreign_store};
use std::collections::BTreeMap;

/// A grant of one pool: its transfer and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GrantId {
    pub(crate) transfer: u128,
    pub(crate) epoch: u64,
}

/// Whose a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Nobody,
    /// The grant's writer may store.
    Grant(GrantId),
    /// The sequence that took over what this grant brought: nobody may store.
    Sequence(GrantId),
}

/// The last store into one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) by: GrantId,
    pub(crate) logical: u32,
    /// The bytes are those that were sent.
    pub(crate) intact: bool,
    /// The receiver has compared the checksum since.
    pub(crate) verified: bool,
}

/// One slot: a block of the receiver's pool.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Slot {
    pub(crate) owner: Owner,
    /// By layer group.
    pub(crate) units: Vec<Option<Stored>>,
}

/// The slots of one pool.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Ledger {
    pub(crate) slots: Vec<Slot>,
    /// Of every grant that is not over: logical block and slot.
    grants: BTreeMap<GrantId, Vec<(u32, u32)>>,
}

impl Ledger {
    pub(crate) fn new(slots: u32, groups: u32) -> Self {
        let slot = Slot { owner: Owner::Nobody, units: vec![None; groups as usize] };
        Self { slots: vec![slot; slots as usize], grants: BTreeMap::new() }
    }

    /// The lowest free slots, if there are so many.
    pub(crate) fn free(&self, count: usize) -> Option<Vec<u32>> {
        let free = (0..).zip(&self.slots).filter(|(_, slot)| slot.owner == Owner::Nobody);
        let free: Vec<u32> = free.map(|(at, _)| at).take(count).collect();
        (free.len() == count).then_some(free)
    }

    /// Whatever was in the slots before does not count any more.
    pub(crate) fn grant(&mut self, grant: GrantId, blocks: Vec<(u32, u32)>) {
        for (_, slot) in &blocks {
            let slot = &mut self.slots[*slot as usize];
            slot.owner = Owner::Grant(grant);
            slot.units.fill(None);
        }
        self.grants.insert(grant, blocks);
    }

    pub(crate) fn blocks(&self, grant: GrantId) -> &[(u32, u32)] {
        self.grants.get(&grant).map_or(&[], Vec::as_slice)
    }

    /// One unit is written.
    pub(crate) fn store(
        &mut self,
        by: GrantId,
        (logical, group, slot): (u32, u32, u32),
        intact: bool,
    ) -> Result<(), Violation> {
        let granted = self.blocks(by).contains(&(logical, slot));
        foreign_store::check(self.slots.get(slot as usize), slot, by, granted)?;
        let stored = Stored { by, logical, intact, verified: false };
        self.slots[slot as usize].units[group as usize] = Some(stored);
        Ok(())
    }

    /// The receiver found the checksum of a unit to be right.
    pub(crate) fn verified(&mut self, by: GrantId, logical: u32, group: u32) {
        let found = self.blocks(by).iter().find(|(l, _)| *l == logical).map(|(_, slot)| *slot);
        if let Some(slot) = found
            && let Some(stored) = &mut self.slots[slot as usize].units[group as usize]
            && stored.by == by
        {
            stored.verified = true;
        }
    }

    /// Every slot of the grant becomes a sequence's.
    pub(crate) fn adopt(&mut self, grant: GrantId) {
        for (_, slot) in self.grants.remove(&grant).unwrap_or_default() {
            self.slots[slot as usize].owner = Owner::Sequence(grant);
        }
    }

    /// The slots of the grant may be used for something else.
    pub(crate) fn free_grant(&mut self, grant: GrantId) {
        for (_, slot) in self.grants.remove(&grant).unwrap_or_default() {
            self.slots[slot as usize].owner = Owner::Nobody;
        }
    }

    /// The sequence that took over what `grant` brought ends.
    pub(crate) fn free_sequence(&mut self, grant: GrantId) {
        for slot in self.slots.iter_mut().filter(|slot| slot.owner == Owner::Sequence(grant)) {
            slot.owner = Owner::Nobody;
        }
    }
}
