//! The index: events in, matches out.

use crate::matches::{Matches, Running};
use crate::sets::{HolderSets, SetBook, SetId};
use crate::table::{SEGMENTS, Table, Writer};
use estafette_types::{BlockHash, KvEvent};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks after which a writer lets others in.
const BATCH: usize = 1024;
/// Blocks that a lookup looks up at once.
const GROUP: usize = 16;

/// A worker, as a small number that the caller gives: memory grows with the largest one, and blocks of numbers from 2^23
/// on are not kept. It may be given to another worker after [`KvIndex::clear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerSlot(pub u32);

/// Block hash → workers. Each slot has one writer at a time; several slots may have theirs at once.
#[derive(Debug)]
pub struct KvIndex {
    table: Table,
    sets: HolderSets,
    books: Mutex<Books>,
}

/// What writers need and readers do not.
#[derive(Debug)]
struct Books {
    table: Writer,
    sets: SetBook,
    /// Blocks held, by slot.
    held: Vec<u64>,
}

impl Default for KvIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl KvIndex {
    /// An empty index.
    pub fn new() -> Self {
        let (table, writer) = Table::new();
        let books = Books { table: writer, sets: SetBook::default(), held: Vec::new() };
        Self { table, sets: HolderSets::default(), books: Mutex::new(books) }
    }

    /// Applies the changes of a worker's cache, in order. What it holds already, and what is removed without being
    /// held, changes nothing.
    pub fn apply(&self, slot: WorkerSlot, events: &[KvEvent]) {
        for batch in events.chunks(BATCH) {
            let mut books = self.lock();
            for event in batch {
                match *event {
                    KvEvent::Stored(hash) => self.store(&mut books, slot, hash),
                    KvEvent::Removed(hash) => self.remove(&mut books, slot, hash),
                    KvEvent::Cleared => {
                        drop(books);
                        self.clear(slot);
                        books = self.lock();
                    }
                }
            }
        }
    }

    /// The worker holds these blocks too: a snapshot, or a part of one.
    pub fn insert(&self, slot: WorkerSlot, hashes: &[BlockHash]) {
        for batch in hashes.chunks(BATCH) {
            let mut books = self.lock();
            for &hash in batch {
                self.store(&mut books, slot, hash);
            }
        }
    }

    /// The worker holds nothing any more. This looks at every block of the index; a lookup at the same time may find some
    /// of the worker's blocks and miss others.
    pub fn clear(&self, slot: WorkerSlot) {
        for number in 0..SEGMENTS {
            let mut books = self.lock();
            if books.held(slot) == 0 {
                return;
            }
            self.clear_segment(&mut books, slot, number);
        }
    }

    /// Blocks that the worker holds.
    pub fn blocks_of(&self, slot: WorkerSlot) -> u64 {
        self.lock().held(slot)
    }

    /// Distinct blocks, whoever holds them.
    pub fn distinct_blocks(&self) -> usize {
        self.lock().table.len()
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        let books = self.lock();
        books.table.memory_bytes()
            + books.sets.memory_bytes(&self.sets)
            + books.held.capacity() * size_of::<u64>()
    }

    /// For each worker that holds the first block of `hashes`, how many leading blocks it holds.
    pub fn matches(&self, hashes: &[BlockHash]) -> Matches {
        let table = self.table.current();
        let Some((&first, others)) = hashes.split_first() else { return Matches::default() };
        let mut previous = table.get(key(first));
        if previous == SetId::EMPTY {
            return Matches::default();
        }
        let mut running = self.sets.with_slots(previous, Running::new);
        let mut block = 0;
        for group in others.chunks(GROUP) {
            // The last group is filled up with keys that are looked at and not used.
            let keys = std::array::from_fn(|i| group.get(i).map_or(0, |&hash| key(hash)));
            let sets: [SetId; GROUP] = table.get_all(keys);
            for &set in &sets[..group.len()] {
                block += 1;
                let changed = set != previous;
                previous = set;
                if changed && !self.sets.with_slots(set, |slots| running.keep(block, slots)) {
                    return running.finish(block);
                }
            }
        }
        running.finish(hashes.len() as u32)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, books: &mut Books, slot: WorkerSlot, hash: BlockHash) {
        let before = books.table.get(key(hash));
        let after = books.sets.with(&self.sets, before, slot.0);
        if self.replace(books, hash, before, after) {
            let index = slot.0 as usize;
            if index >= books.held.len() {
                books.held.resize(index + 1, 0);
            }
            books.held[index] += 1;
        }
    }

    fn remove(&self, books: &mut Books, slot: WorkerSlot, hash: BlockHash) {
        let before = books.table.get(key(hash));
        let after = books.sets.without(&self.sets, before, slot.0);
        if self.replace(books, hash, before, after) {
            books.held[slot.0 as usize] -= 1;
        }
    }

    /// Whether that is a change.
    fn replace(&self, books: &mut Books, hash: BlockHash, before: SetId, after: SetId) -> bool {
        if after == before {
            return false;
        }
        books.table.set(&self.table, key(hash), after);
        books.sets.moved(before, after);
        books.sets.recycle(&self.sets, &self.table, &mut books.table);
        true
    }

    fn clear_segment(&self, books: &mut Books, slot: WorkerSlot, number: usize) {
        let Books { table, sets, held } = books;
        table.update_segment(&self.table, number, |before| {
            let after = sets.without(&self.sets, before, slot.0);
            if after != before {
                sets.moved(before, after);
                held[slot.0 as usize] -= 1;
            }
            after
        });
        sets.recycle(&self.sets, &self.table, table);
    }
}

/// The half of the hash that the index looks at.
fn key(hash: BlockHash) -> u64 {
    hash.0 as u64
}

impl Books {
    fn held(&self, slot: WorkerSlot) -> u64 {
        self.held.get(slot.0 as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
