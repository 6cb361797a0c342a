//! Block key → holder set: open addressing with linear probing, in segments that grow one at a time.
//!
//! Keys are hashes already, so a key's top bits choose the segment and the next ones its home. Removal shifts the
//! following entries back instead of leaving a mark, so a table that lives long under evictions does not slow down.

use crate::sets::SetId;

/// 12 bytes; an empty set marks a free place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    low: u32,
    high: u32,
    set: SetId,
}

/// Places in a segment that holds next to nothing.
const SIZE_MIN: usize = 8;
const FREE: Entry = Entry { low: 0, high: 0, set: SetId::EMPTY };

impl Entry {
    fn new(key: u64, set: SetId) -> Self {
        Self { low: key as u32, high: (key >> 32) as u32, set }
    }

    fn key(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }

    fn is_free(&self) -> bool {
        self.set == SetId::EMPTY
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    segments: Vec<Segment>,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { segments: (0..Self::SEGMENTS).map(|_| Segment::default()).collect(), len: 0 }
    }
}

impl Table {
    const SEGMENT_BITS: u32 = 8;
    pub(crate) const SEGMENTS: usize = 1 << Self::SEGMENT_BITS;

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let entries: usize = self.segments.iter().map(|s| s.entries.capacity()).sum();
        self.segments.capacity() * size_of::<Segment>() + entries * size_of::<Entry>()
    }

    fn segment(key: u64) -> usize {
        (key >> (64 - Self::SEGMENT_BITS)) as usize
    }

    /// The block's holders.
    pub(crate) fn get(&self, key: u64) -> SetId {
        let segment = &self.segments[Self::segment(key)];
        segment.find(key).map_or(SetId::EMPTY, |i| segment.entries[i].set)
    }

    /// Gives the block the holders `set`; none, and the block is forgotten.
    pub(crate) fn set(&mut self, key: u64, set: SetId) {
        let segment = &mut self.segments[Self::segment(key)];
        let before = segment.len;
        segment.set(key, set);
        self.len = self.len - before + segment.len;
    }

    /// Replaces the holders of every block of one segment.
    pub(crate) fn update_segment(&mut self, number: usize, mut update: impl FnMut(SetId) -> SetId) {
        let segment = &mut self.segments[number];
        let before = segment.len;
        segment.update(&mut update);
        self.len = self.len - before + segment.len;
    }
}

/// Between a half and seven eighths of it is taken, unless it is tiny.
#[derive(Debug, Default)]
struct Segment {
    entries: Vec<Entry>,
    len: usize,
}

impl Segment {
    fn home(&self, key: u64) -> usize {
        let rest = key << Table::SEGMENT_BITS;
        ((u128::from(rest) * self.entries.len() as u128) >> 64) as usize
    }

    fn next(&self, i: usize) -> usize {
        if i + 1 == self.entries.len() { 0 } else { i + 1 }
    }

    fn find(&self, key: u64) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut i = self.home(key);
        loop {
            let entry = &self.entries[i];
            if entry.is_free() {
                return None;
            }
            if entry.key() == key {
                return Some(i);
            }
            i = self.next(i);
        }
    }

    fn set(&mut self, key: u64, set: SetId) {
        match self.find(key) {
            Some(i) if set == SetId::EMPTY => self.remove(i),
            Some(i) => self.entries[i].set = set,
            None if set == SetId::EMPTY => {}
            None => {
                self.len += 1;
                self.fit();
                self.place(Entry::new(key, set));
            }
        }
    }

    fn place(&mut self, new: Entry) {
        let mut i = self.home(new.key());
        while !self.entries[i].is_free() {
            i = self.next(i);
        }
        self.entries[i] = new;
    }

    /// Makes the table larger or smaller when too much or too little of it is taken.
    fn fit(&mut self) {
        let size = self.entries.len();
        if self.len * 8 > size * 7 || (self.len * 2 < size && size > SIZE_MIN) {
            self.rebuild();
        }
    }

    /// Moves the entries to a table of which seven tenths are taken.
    fn rebuild(&mut self) {
        let size = (self.len * 10 / 7 + 1).max(SIZE_MIN);
        let old = std::mem::replace(&mut self.entries, vec![FREE; size]);
        for entry in old.into_iter().filter(|entry| !entry.is_free()) {
            self.place(entry);
        }
    }

    /// Frees the place `hole` and moves back what could not have its home because of it.
    fn remove(&mut self, mut hole: usize) {
        self.len -= 1;
        let size = self.entries.len();
        let mut i = hole;
        loop {
            i = self.next(i);
            let entry = self.entries[i];
            if entry.is_free() {
                break;
            }
            // How far the entry is from its home, and how far the hole is behind it.
            let displaced = (i + size - self.home(entry.key())) % size;
            let behind = (i + size - hole) % size;
            if displaced >= behind {
                self.entries[hole] = entry;
                hole = i;
            }
        }
        self.entries[hole] = FREE;
        self.fit();
    }

    fn update(&mut self, update: &mut impl FnMut(SetId) -> SetId) {
        let before = self.len;
        for entry in self.entries.iter_mut().filter(|entry| !entry.is_free()) {
            entry.set = update(entry.set);
            self.len -= usize::from(entry.is_free());
        }
        // Free places inside a run of entries would hide what comes after them.
        if self.len < before {
            self.rebuild();
        }
    }
}

#[cfg(test)]
mod tests;
