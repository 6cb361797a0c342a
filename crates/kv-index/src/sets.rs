//! Sets of workers, each stored once however many blocks have it.

use estafette_types::SplitMix64;
use std::collections::BTreeSet;

/// An interned set of slots. Equal numbers are equal sets, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetId(u32);

/// Marks a set of one: the rest of the number is the slot.
const SINGLE: u32 = 1 << 31;

impl SetId {
    pub(crate) const EMPTY: Self = Self(0);

    fn single(slot: u32) -> Self {
        Self(SINGLE | slot)
    }

    /// Where a set of two and more is stored.
    fn index(self) -> Option<usize> {
        (self.0 != 0 && self.0 & SINGLE == 0).then(|| self.0 as usize - 1)
    }
}

/// The slots of a set, sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slots<'a> {
    None,
    One([u32; 1]),
    Many(&'a [u32]),
}

impl AsRef<[u32]> for Slots<'_> {
    fn as_ref(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(slot) => slot,
            Self::Many(slots) => slots,
        }
    }
}

/// The sets in use. Those of two and more workers are counted by the blocks that have them and go with the last one.
#[derive(Debug, Default)]
pub(crate) struct HolderSets {
    sets: Vec<HolderSet>,
    unused: Vec<u32>,
    /// (hash, index) of every set in use.
    by_hash: BTreeSet<(u64, u32)>,
    /// The last change: blocks of one prefix come in a row and change in the same way.
    last: Option<Change>,
}

#[derive(Debug, Default)]
struct HolderSet {
    slots: Box<[u32]>,
    hash: u64,
    blocks: u32,
}

/// `before` and `after` differ in `slot`, which `after` has if it was `added`.
#[derive(Clone, Copy, Debug)]
struct Change {
    before: SetId,
    slot: u32,
    added: bool,
    after: SetId,
}

impl HolderSets {
    /// The set of a block that had `before`, once `slot` has the block too.
    pub(crate) fn with(&mut self, before: SetId, slot: u32) -> SetId {
        if before == SetId::EMPTY { SetId::single(slot) } else { self.change(before, slot, true) }
    }

    /// The set of a block that had `before`, once `slot` has not got the block any more.
    pub(crate) fn without(&mut self, before: SetId, slot: u32) -> SetId {
        if before == SetId::single(slot) { SetId::EMPTY } else { self.change(before, slot, false) }
    }

    pub(crate) fn slots(&self, set: SetId) -> Slots<'_> {
        match set.index() {
            Some(index) => Slots::Many(&self.sets[index].slots),
            None if set == SetId::EMPTY => Slots::None,
            None => Slots::One([set.0 & !SINGLE]),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let slots: usize = self.sets.iter().map(|set| set.slots.len() * size_of::<u32>()).sum();
        // A B-tree's nodes are between half and all full.
        let by_hash = self.by_hash.len() * size_of::<(u64, u32)>() * 3 / 2;
        slots
            + by_hash
            + self.sets.capacity() * size_of::<HolderSet>()
            + self.unused.capacity() * size_of::<u32>()
    }

    /// Moves one block from `before` to the set that differs in `slot`, unless `before` is as wanted already.
    fn change(&mut self, before: SetId, slot: u32, add: bool) -> SetId {
        let last = self.last.filter(|last| last.before == before && last.slot == slot);
        let after = match last {
            Some(last) if last.added == add => last.after,
            Some(_) => return before,
            None => {
                let slots = self.slots(before);
                let slots = slots.as_ref();
                let toggled = match (slots.binary_search(&slot), add) {
                    (Err(at), true) => [&slots[..at], &[slot], &slots[at..]].concat(),
                    (Ok(at), false) => [&slots[..at], &slots[at + 1..]].concat(),
                    (Ok(_), true) | (Err(_), false) => return before,
                };
                self.intern(toggled, self.hash(before) ^ mix(slot))
            }
        };
        self.last = Some(Change { before, slot, added: add, after });
        if let Some(index) = after.index() {
            self.sets[index].blocks += 1;
        }
        self.release(before);
        after
    }

    /// The number of the set; a new one has no blocks yet.
    fn intern(&mut self, slots: Vec<u32>, hash: u64) -> SetId {
        if let [slot] = slots[..] {
            return SetId::single(slot);
        }
        let same = |&&(_, index): &&(u64, u32)| *self.sets[index as usize].slots == slots[..];
        if let Some(&(_, index)) = self.by_hash.range((hash, 0)..=(hash, u32::MAX)).find(same) {
            return SetId(index + 1);
        }
        let index = self.unused.pop().unwrap_or_else(|| {
            self.sets.push(HolderSet::default());
            self.sets.len() as u32 - 1
        });
        self.sets[index as usize] = HolderSet { slots: slots.into(), hash, blocks: 0 };
        self.by_hash.insert((hash, index));
        SetId(index + 1)
    }

    /// One block less has this set.
    fn release(&mut self, set: SetId) {
        let Some(index) = set.index() else { return };
        let stored = &mut self.sets[index];
        stored.blocks -= 1;
        if stored.blocks == 0 {
            let hash = stored.hash;
            *stored = HolderSet::default();
            self.by_hash.remove(&(hash, index as u32));
            self.unused.push(index as u32);
            // It may name the set that is gone.
            self.last = None;
        }
    }

    /// The sum of its slots' hashes, so that one more slot needs one operation and not a pass over the set.
    fn hash(&self, set: SetId) -> u64 {
        match set.index() {
            Some(index) => self.sets[index].hash,
            None => mix(set.0 & !SINGLE),
        }
    }
}

/// Spreads a slot over 64 bits: the step of SplitMix64.
fn mix(slot: u32) -> u64 {
    SplitMix64::new(u64::from(slot)).next_u64()
}

#[cfg(test)]
mod tests;
