//! Block key → holder set: open addressing with linear probing, in segments that grow one at a time.

use crate::sets::SetId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// A place is a fingerprint of 40 bits above the number of a set.
const FREE: u64 = 0;
/// Of a removed block. It keeps the way to the places behind it.
const REMOVED: u64 = !0 << SetId::BITS;
const FINGERPRINT_BITS: u32 = 64 - SetId::BITS;
const SEGMENT_BITS: u32 = 10;
pub(crate) const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// Places of a segment that holds next to nothing.
const SIZE_MIN: usize = 8;

/// What readers share.
#[derive(Debug)]
pub(crate) struct Table {
    current: RwLock<Arc<Generation>>,
}

/// The arrays of all segments. Their words change, the arrays do not.
#[derive(Debug)]
pub(crate) struct Generation {
    segments: Box<[Segment]>,
    epoch: Arc<Epoch>,
}

/// Alive as long as there are readers that began in it. One epoch has many generations.
#[derive(Debug)]
pub(crate) struct Epoch;

#[derive(Clone, Debug)]
struct Segment(Arc<[AtomicU64]>);

/// What the one writer knows besides.
#[derive(Debug)]
pub(crate) struct Writer {
    current: Arc<Generation>,
    fill: Box<[Fill]>,
    len: usize,
}

/// Of one segment.
#[derive(Clone, Copy, Debug, Default)]
struct Fill {
    blocks: usize,
    removed: usize,
}

impl Table {
    pub(crate) fn new() -> (Self, Writer) {
        let segments = (0..SEGMENTS).map(|_| Segment::new(SIZE_MIN)).collect();
        let current = Arc::new(Generation { segments, epoch: Arc::new(Epoch) });
        let fill = vec![Fill::default(); SEGMENTS].into();
        (Self { current: RwLock::new(Arc::clone(&current)) }, Writer { current, fill, len: 0 })
    }

    /// The newest generation. The lock is held for the copy of a pointer only, here and by the writer.
    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generation {
    /// The block's holders.
    pub(crate) fn get(&self, key: u64) -> SetId {
        let [set] = self.get_all([key]);
        set
    }

    /// The holders of each block. Every block's home is read before the first is looked at, so that the cache misses
    /// overlap: how far a probe goes on from its home cannot be predicted, and a wrong guess waits for its word.
    pub(crate) fn get_all<const N: usize>(&self, keys: [u64; N]) -> [SetId; N] {
        let homes = keys.map(|key| {
            let segment = &self.segments[segment_of(key)];
            let home = segment.home(fingerprint(key));
            (segment, fingerprint(key), home, segment.load(home))
        });
        homes.map(|(segment, fingerprint, home, word)| segment.probe(fingerprint, home, word))
    }
}

fn segment_of(key: u64) -> usize {
    (key >> (64 - SEGMENT_BITS)) as usize
}

/// In the place that it has in a word.
fn fingerprint(key: u64) -> u64 {
    key << SetId::BITS
}

impl Segment {
    fn new(size: usize) -> Self {
        Self((0..size).map(|_| AtomicU64::new(FREE)).collect())
    }

    fn home(&self, fingerprint: u64) -> usize {
        let fraction = fingerprint >> SetId::BITS;
        ((fraction * self.0.len() as u64) >> FINGERPRINT_BITS) as usize
    }

    fn load(&self, i: usize) -> u64 {
        self.0[i].load(Ordering::Acquire)
    }

    fn store(&self, i: usize, word: u64) {
        self.0[i].store(word, Ordering::Release);
    }

    fn after(&self, i: usize) -> usize {
        if i + 1 == self.0.len() { 0 } else { i + 1 }
    }

    fn before(&self, i: usize) -> usize {
        i.checked_sub(1).unwrap_or(self.0.len() - 1)
    }

    /// The holders of the block, looked for from place `i` on, which has `word`.
    fn probe(&self, fingerprint: u64, mut i: usize, mut word: u64) -> SetId {
        while word != FREE {
            match SetId::of(word ^ fingerprint) {
                Some(set) if set != SetId::EMPTY => return set,
                _ => {
                    i = self.after(i);
                    word = self.load(i);
                }
            }
        }
        SetId::EMPTY
    }

    /// Where the block is, or else the first place that it could have.
    fn find(&self, fingerprint: u64) -> Result<usize, usize> {
        let mut reusable = None;
        let mut i = self.home(fingerprint);
        loop {
            let word = self.load(i);
            if word == FREE {
                return Err(reusable.unwrap_or(i));
            }
            if word == REMOVED {
                reusable = reusable.or(Some(i));
            } else if SetId::of(word ^ fingerprint).is_some() {
                return Ok(i);
            }
            i = self.after(i);
        }
    }

    /// Takes a block away. Removed places that lead nowhere become free again; how many more of them there are now.
    fn remove(&self, i: usize) -> isize {
        self.store(i, REMOVED);
        let mut more = 1;
        if self.load(self.after(i)) == FREE {
            let mut i = i;
            while self.load(i) == REMOVED {
                self.store(i, FREE);
                more -= 1;
                i = self.before(i);
            }
        }
        more
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (0..self.0.len())
            .map(|i| (i, self.load(i)))
            .filter(|(_, word)| *word != FREE && *word != REMOVED)
    }

    /// The same blocks in an array of `size` places.
    fn resized(&self, size: usize) -> Self {
        let new = Self::new(size);
        for (_, word) in self.blocks() {
            let mut i = new.home(word);
            while new.load(i) != FREE {
                i = new.after(i);
            }
            new.store(i, word);
        }
        new
    }
}

impl Writer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let places: usize = self.current.segments.iter().map(|segment| segment.0.len()).sum();
        // Each array has two counts in front of it.
        places * size_of::<AtomicU64>()
            + SEGMENTS * (size_of::<Segment>() + size_of::<Fill>() + 2 * size_of::<usize>())
    }

    pub(crate) fn get(&self, key: u64) -> SetId {
        self.current.get(key)
    }

    /// Gives the block the holders `set`; with none it is forgotten.
    pub(crate) fn set(&mut self, table: &Table, key: u64, set: SetId) {
        let number = segment_of(key);
        let fingerprint = fingerprint(key);
        match self.current.segments[number].find(fingerprint) {
            Ok(i) => self.replace(number, i, fingerprint, set),
            Err(_) if set == SetId::EMPTY => return,
            Err(i) => {
                self.fill[number].removed -=
                    usize::from(self.current.segments[number].load(i) == REMOVED);
                self.fill[number].blocks += 1;
                self.len += 1;
                self.current.segments[number].store(i, set.in_word(fingerprint));
            }
        }
        self.fit(table, number);
    }

    /// Gives every block of one segment the holders that `update` makes of those it has.
    pub(crate) fn update_segment(
        &mut self,
        table: &Table,
        number: usize,
        mut update: impl FnMut(SetId) -> SetId,
    ) {
        let segment = self.current.segments[number].clone();
        for (i, word) in segment.blocks() {
            let before = SetId::in_word_of(word);
            let after = update(before);
            if after != before {
                self.replace(number, i, word ^ before.in_word(0), after);
            }
        }
        self.fit(table, number);
    }

    fn replace(&mut self, number: usize, i: usize, fingerprint: u64, set: SetId) {
        let segment = &self.current.segments[number];
        if set == SetId::EMPTY {
            let fill = &mut self.fill[number];
            fill.removed = fill.removed.saturating_add_signed(segment.remove(i));
            fill.blocks -= 1;
            self.len -= 1;
        } else {
            segment.store(i, set.in_word(fingerprint));
        }
    }

    /// Keeps between a third and seven eighths of a segment's places taken, also with one block more: a probe, which may
    /// run at any moment, ends at a free place.
    fn fit(&mut self, table: &Table, number: usize) {
        let segment = &self.current.segments[number];
        let (Fill { blocks, removed }, size) = (self.fill[number], segment.0.len());
        let full = (blocks + removed + 1) * 8 > size * 7;
        let sparse = blocks * 3 < size && size > SIZE_MIN;
        if full || sparse {
            let mut segments = self.current.segments.clone();
            segments[number] = segment.resized((blocks * 10 / 7 + 1).max(SIZE_MIN));
            self.fill[number].removed = 0;
            let epoch = Arc::clone(&self.current.epoch);
            self.publish(table, Generation { segments, epoch });
        }
    }

    /// Begins a new epoch with the same arrays; the old one, which ends with its last reader.
    pub(crate) fn end_epoch(&mut self, table: &Table) -> Weak<Epoch> {
        let old = Arc::downgrade(&self.current.epoch);
        let segments = self.current.segments.clone();
        self.publish(table, Generation { segments, epoch: Arc::new(Epoch) });
        old
    }

    fn publish(&mut self, table: &Table, generation: Generation) {
        self.current = Arc::new(generation);
        *table.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.current);
    }
}

#[cfg(test)]
mod tests;
