//! A fixed set of small integers: which units have been sent or counted.

/// Members of `0..len`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    len: usize,
    ones: usize,
}

impl Bitmap {
    pub(crate) fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len, ones: 0 }
    }

    /// How many members there are.
    pub(crate) fn count(&self) -> usize {
        self.ones
    }

    /// False outside `0..len`.
    pub(crate) fn contains(&self, index: usize) -> bool {
        index < self.len && self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// True when `index` was not a member before; outside `0..len` nothing changes.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let new = index < self.len && !self.contains(index);
        if new {
            self.words[index / 64] |= 1 << (index % 64);
            self.ones += 1;
        }
        new
    }
}
