//! The only place that looks into a pool's memory.
#![expect(unsafe_code, reason = "the pool is raw memory shared between threads and processes")]

use estafette_kernels::{KvMemory, checksum};
use std::{ops::Range, sync::Arc};

/// Bytes of a pool that are to be read; empty when they would leave it.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    memory: Arc<KvMemory>,
    range: Range<usize>,
}

impl Chunk {
    /// The caller vouches that nobody writes to `range` while the chunk exists: on the sending side the
    /// blocks are final and pinned, on the receiving side the gate is held.
    pub(crate) fn new(memory: &Arc<KvMemory>, range: Range<usize>) -> Self {
        let inside = range.start <= range.end && range.end <= memory.len();
        Self { memory: memory.clone(), range: if inside { range } else { 0..0 } }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range was checked against the memory, which lives as long as `self`; that nobody
        // writes to it meanwhile is the promise made to `new`.
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(self.range.start), self.range.len())
        }
    }

    pub(crate) fn checksum(&self) -> u64 {
        checksum(self.bytes())
    }
}

/// Lets `f` write into `range` of `memory`; `None` when it would leave it. The caller holds the
/// transfer's gate, or owns the memory.
pub(crate) fn write<T>(
    memory: &KvMemory,
    range: Range<usize>,
    f: impl FnOnce(&mut [u8]) -> T,
) -> Option<T> {
    if range.start > range.end || range.end > memory.len() {
        return None;
    }
    // SAFETY: the range lies in the memory, which outlives the call; nobody else reads or writes it, since
    // a granted block belongs to its transfer alone and the caller is its only writer.
    Some(f(unsafe {
        std::slice::from_raw_parts_mut(memory.as_ptr().add(range.start), range.len())
    }))
}
