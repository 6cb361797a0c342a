//! The index: events in, matches out.

use crate::matches::Matches;
use crate::sets::{HolderSets, SetId};
use crate::table::Table;
use estafette_types::{BlockHash, KvEvent};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Blocks written under one lock.
pub const BATCH: usize = 256;

/// A worker, as a small number that the caller gives: memory grows with the largest one. It may be given to another
/// worker after [`KvIndex::remove_worker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerSlot(pub u32);

/// Block hash → workers.
#[derive(Debug, Default)]
pub struct KvIndex {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    sets: HolderSets,
    /// Blocks held, by slot.
    held: Vec<u64>,
}

impl KvIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the changes of a worker's cache, in order.
    pub fn apply(&self, slot: WorkerSlot, events: &[KvEvent]) {
        for batch in events.chunks(BATCH) {
            let mut state = self.write();
            for (i, event) in batch.iter().enumerate() {
                match *event {
                    KvEvent::Stored(hash) => state.store(slot, hash),
                    KvEvent::Removed(hash) => state.remove(slot, hash),
                    KvEvent::Cleared => {
                        drop(state);
                        self.clear(slot);
                        self.apply(slot, &batch[i + 1..]);
                        break;
                    }
                }
            }
        }
    }

    /// The worker holds these blocks too: a snapshot, or a part of one.
    pub fn insert(&self, slot: WorkerSlot, hashes: &[BlockHash]) {
        for batch in hashes.chunks(BATCH) {
            let mut state = self.write();
            for &hash in batch {
                state.store(slot, hash);
            }
        }
    }

    /// The worker holds nothing any more. Looks at every entry of the table, a segment at a time; a reader meanwhile
    /// may see the worker without its removed blocks and with the others.
    pub fn clear(&self, slot: WorkerSlot) {
        let mut segment = 0;
        while segment < Table::SEGMENTS {
            let mut state = self.write();
            if state.held_by(slot) == 0 {
                return;
            }
            state.clear_segment(slot, segment);
            segment += 1;
        }
    }

    /// The worker is gone; its slot may be given to another one.
    pub fn remove_worker(&self, slot: WorkerSlot) {
        self.clear(slot);
    }

    /// Blocks that the worker holds.
    pub fn blocks_of(&self, slot: WorkerSlot) -> u64 {
        self.read().held_by(slot)
    }

    /// Distinct blocks, whoever holds them.
    pub fn distinct_blocks(&self) -> usize {
        self.read().table.len()
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        let state = self.read();
        state.table.memory_bytes()
            + state.sets.memory_bytes()
            + state.held.capacity() * size_of::<u64>()
    }

    /// For each worker that holds the first block of `hashes`, how many leading blocks it holds.
    pub fn matches(&self, hashes: &[BlockHash]) -> Matches {
        self.read().matches(hashes)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(hash: BlockHash) -> u64 {
    hash.0 as u64
}

impl State {
    fn held_by(&self, slot: WorkerSlot) -> u64 {
        self.held.get(slot.0 as usize).copied().unwrap_or(0)
    }

    fn store(&mut self, slot: WorkerSlot, hash: BlockHash) {
        let before = self.table.get(key(hash));
        let after = self.sets.with(before, slot.0);
        if after == before {
            return;
        }
        self.table.set(key(hash), after);
        let index = slot.0 as usize;
        if index >= self.held.len() {
            self.held.resize(index + 1, 0);
        }
        self.held[index] += 1;
    }

    fn remove(&mut self, slot: WorkerSlot, hash: BlockHash) {
        let before = self.table.get(key(hash));
        let after = self.sets.without(before, slot.0);
        if after == before {
            return;
        }
        self.table.set(key(hash), after);
        self.held[slot.0 as usize] -= 1;
    }

    fn clear_segment(&mut self, slot: WorkerSlot, segment: usize) {
        let (sets, mut removed) = (&mut self.sets, 0);
        self.table.update_segment(segment, |before| {
            let after = sets.without(before, slot.0);
            removed += u64::from(after != before);
            after
        });
        if removed > 0 {
            self.held[slot.0 as usize] -= removed;
        }
    }

    fn matches(&self, hashes: &[BlockHash]) -> Matches {
        let mut matches = Matches::default();
        let mut previous = SetId::EMPTY;
        for (i, &hash) in hashes.iter().enumerate() {
            let set = self.table.get(key(hash));
            if i == 0 {
                matches.start(self.sets.slots(set).as_ref());
            } else if set != previous {
                matches.keep(i as u32, self.sets.slots(set).as_ref());
            }
            if matches.is_over() {
                break;
            }
            previous = set;
        }
        matches.finish(hashes.len() as u32);
        matches
    }
}

#[cfg(test)]
mod tests;
