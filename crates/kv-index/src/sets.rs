//! Holder sets: sets of workers, each stored once however many blocks have it.

use crate::table::{Epoch, Table, Writer};
use estafette_types::SplitMix64;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{PoisonError, RwLock, Weak};

/// An interned set of slots. At any moment equal numbers are equal sets, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetId(u32);

/// Marks a set of one: the rest of the number is the slot.
const SINGLE: u32 = 1 << (SetId::BITS - 1);
/// Numbers that are given up before a new epoch is begun to get them back.
const RETIRED_MAX: usize = 256;

impl SetId {
    pub(crate) const EMPTY: Self = Self(0);
    /// Of a word of the table.
    pub(crate) const BITS: u32 = 24;

    /// The set in a word without a fingerprint.
    pub(crate) fn of(word: u64) -> Option<Self> {
        (word >> Self::BITS == 0).then_some(Self(word as u32))
    }

    pub(crate) fn in_word_of(word: u64) -> Self {
        Self(word as u32 & (2 * SINGLE - 1))
    }

    pub(crate) fn in_word(self, fingerprint: u64) -> u64 {
        fingerprint | u64::from(self.0)
    }

    fn single(slot: u32) -> Self {
        Self(SINGLE | slot)
    }

    /// Where a set of two and more is stored.
    fn index(self) -> Option<usize> {
        (self.0 != 0 && self.0 & SINGLE == 0).then(|| self.0 as usize - 1)
    }
}

/// The slots of the sets of two and more: what readers share. The lock is held while one set is read, or put in.
#[derive(Debug, Default)]
pub(crate) struct HolderSets {
    slots: RwLock<Vec<Box<[u32]>>>,
}

impl HolderSets {
    /// Calls `read` with the set's slots, sorted.
    pub(crate) fn with_slots<R>(&self, set: SetId, read: impl FnOnce(&[u32]) -> R) -> R {
        match set.index() {
            Some(index) => read(&self.slots.read().unwrap_or_else(PoisonError::into_inner)[index]),
            None if set == SetId::EMPTY => read(&[]),
            None => read(&[set.0 & !SINGLE]),
        }
    }

    fn put(&self, index: usize, slots: Box<[u32]>) {
        let mut all = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if index == all.len() {
            all.push(slots);
        } else {
            all[index] = slots;
        }
    }
}

/// The sets in use, by the one writer. Those of two and more workers are counted by the blocks that have them and go with
/// the last one.
#[derive(Debug, Default)]
pub(crate) struct SetBook {
    sets: Vec<Counted>,
    /// (hash, index) of every set in use.
    by_hash: BTreeSet<(u64, u32)>,
    /// The last change: blocks of one prefix come in a row and change in the same way.
    last: Option<Change>,
    /// Given up in the current epoch.
    retired: Vec<u32>,
    /// Given up in earlier ones: a reader of that epoch may still hold such a number.
    quarantine: VecDeque<(Weak<Epoch>, Vec<u32>)>,
    unused: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
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

impl SetBook {
    /// The set of a block that has `before`, once `slot` has the block too. The caller moves the block there, and then
    /// says so with [`SetBook::moved`].
    pub(crate) fn with(&mut self, sets: &HolderSets, before: SetId, slot: u32) -> SetId {
        if slot >= SINGLE {
            return before;
        }
        if before == SetId::EMPTY {
            return SetId::single(slot);
        }
        self.change(sets, before, slot, true)
    }

    /// The set of a block that has `before`, once `slot` has not got the block any more.
    pub(crate) fn without(&mut self, sets: &HolderSets, before: SetId, slot: u32) -> SetId {
        if before == SetId::single(slot) {
            return SetId::EMPTY;
        }
        self.change(sets, before, slot, false)
    }

    fn change(&mut self, sets: &HolderSets, before: SetId, slot: u32, add: bool) -> SetId {
        let last = self.last.filter(|last| last.before == before && last.slot == slot);
        if let Some(last) = last {
            return if last.added == add { last.after } else { before };
        }
        let toggled = sets.with_slots(before, |slots| match (slots.binary_search(&slot), add) {
            (Err(at), true) => Some([&slots[..at], &[slot], &slots[at..]].concat()),
            (Ok(at), false) => Some([&slots[..at], &slots[at + 1..]].concat()),
            (Ok(_), true) | (Err(_), false) => None,
        });
        let Some(toggled) = toggled else { return before };
        let hash = self.hash(before) ^ mix(slot);
        let Some(after) = self.intern(sets, toggled, hash) else { return before };
        self.last = Some(Change { before, slot, added: add, after });
        after
    }

    /// The set's number; a new set has no blocks yet. `None` when there is no number left.
    fn intern(&mut self, sets: &HolderSets, slots: Vec<u32>, hash: u64) -> Option<SetId> {
        match slots[..] {
            [] => return Some(SetId::EMPTY),
            [slot] => return Some(SetId::single(slot)),
            _ => {}
        }
        for &(_, index) in self.by_hash.range((hash, 0)..=(hash, u32::MAX)) {
            let set = SetId(index + 1);
            if sets.with_slots(set, |stored| *stored == slots[..]) {
                return Some(set);
            }
        }
        let index = self.unused.pop().unwrap_or(self.sets.len() as u32);
        if index + 1 >= SINGLE {
            return None;
        }
        if index as usize == self.sets.len() {
            self.sets.push(Counted::default());
        }
        self.sets[index as usize] = Counted { hash, blocks: 0 };
        sets.put(index as usize, slots.into());
        self.by_hash.insert((hash, index));
        Some(SetId(index + 1))
    }

    /// One block went from the set `before` to the set `after`.
    pub(crate) fn moved(&mut self, before: SetId, after: SetId) {
        if let Some(index) = after.index() {
            self.sets[index].blocks += 1;
        }
        let Some(index) = before.index() else { return };
        let set = &mut self.sets[index];
        set.blocks -= 1;
        if set.blocks == 0 {
            self.by_hash.remove(&(set.hash, index as u32));
            self.retired.push(index as u32);
            // It may name the set that is gone.
            self.last = None;
        }
    }

    /// Gets numbers back that no reader can hold any more.
    pub(crate) fn recycle(&mut self, sets: &HolderSets, table: &Table, writer: &mut Writer) {
        if self.retired.len() < RETIRED_MAX {
            return;
        }
        let retired = std::mem::take(&mut self.retired);
        self.quarantine.push_back((writer.end_epoch(table), retired));
        // In the order in which the epochs ended, since a reader of an old one may have seen all that came later.
        while self.quarantine.front().is_some_and(|(epoch, _)| epoch.strong_count() == 0) {
            let Some((_, numbers)) = self.quarantine.pop_front() else { return };
            for &index in &numbers {
                sets.put(index as usize, Box::default());
            }
            self.unused.extend(numbers);
        }
    }

    pub(crate) fn memory_bytes(&self, sets: &HolderSets) -> usize {
        let slots = sets.slots.read().unwrap_or_else(PoisonError::into_inner);
        let stored: usize = slots.iter().map(|slots| slots.len() * size_of::<u32>()).sum();
        // A B-tree's nodes are between half and all full.
        let by_hash = self.by_hash.len() * size_of::<(u64, u32)>() * 3 / 2;
        let numbers = self.unused.capacity() + self.retired.capacity();
        stored
            + by_hash
            + slots.capacity() * size_of::<Box<[u32]>>()
            + self.sets.capacity() * size_of::<Counted>()
            + numbers * size_of::<u32>()
    }

    /// Every slot's hash in one, so that one more slot needs one operation and not a pass over the set.
    fn hash(&self, set: SetId) -> u64 {
        match set.index() {
            Some(index) => self.sets[index].hash,
            None => mix(set.0 & !SINGLE),
        }
    }
}

/// Spreads a slot over 64 bits.
fn mix(slot: u32) -> u64 {
    SplitMix64::new(u64::from(slot)).next_u64()
}

#[cfg(test)]
mod tests;
