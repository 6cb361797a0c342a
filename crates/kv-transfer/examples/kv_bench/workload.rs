//! The blocks of each batch, the same in both processes.

use estafette_kernels::{KvLayout, KvMemory};
use estafette_kv_transfer::HandoffLayout;
use estafette_types::SplitMix64;

/// Blocks of one batch.
pub(crate) const BATCH: u32 = 1024;
/// Batches before the clock counts; the receiver looks at every byte of them.
pub(crate) const WARM: u128 = 4;
const POOL: u32 = 4096;
const SOURCE_SEED: u64 = 7;
const TARGET_SEED: u64 = 99;

/// One unit of 64 KiB for each block.
pub(crate) fn layout() -> HandoffLayout {
    let kv = KvLayout { num_blocks: POOL, block_size: 16, layers: 1, kv_heads: 8, head_dim: 128 };
    HandoffLayout { kv, layers_per_group: 1, model_digest: Vec::new(), numerics_id: String::new() }
}

/// The blocks of each batch at both ends, in the order of the prompt.
pub(crate) struct Tables {
    source: Vec<u32>,
    target: Vec<u32>,
}

impl Tables {
    pub(crate) fn new() -> Self {
        Self { source: permuted(SOURCE_SEED), target: permuted(TARGET_SEED) }
    }

    pub(crate) fn source(&self, batch: u128) -> &[u32] {
        of_batch(&self.source, batch)
    }

    pub(crate) fn target(&self, batch: u128) -> &[u32] {
        of_batch(&self.target, batch)
    }
}

fn of_batch(blocks: &[u32], batch: u128) -> &[u32] {
    let first = (batch % u128::from(POOL / BATCH)) as usize * BATCH as usize;
    &blocks[first..first + BATCH as usize]
}

fn permuted(seed: u64) -> Vec<u32> {
    let mut random = SplitMix64::new(seed);
    let mut blocks: Vec<u32> = (0..POOL).collect();
    for i in (1..blocks.len()).rev() {
        blocks.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    blocks
}

/// Bytes of a block in the pool.
pub(crate) fn bytes_of(block: u32) -> std::ops::Range<usize> {
    let len = layout().kv.block_bytes();
    block as usize * len..(block as usize + 1) * len
}

/// Gives every 8 bytes of the pool a value of their own.
#[expect(unsafe_code, reason = "a pool is raw memory")]
pub(crate) fn stamp(memory: &KvMemory) {
    // SAFETY: nothing else uses the pool yet.
    let bytes = unsafe { memory.slice_mut(0..memory.len()) };
    for (i, word) in (0_u64..).zip(bytes.as_chunks_mut::<8>().0) {
        *word = mixed(i).to_le_bytes();
    }
}

/// Whether `bytes` are those that [`stamp`] put into `block`.
pub(crate) fn is_stamped(bytes: &[u8], block: u32) -> bool {
    let first = bytes_of(block).start as u64 / 8;
    (first..).zip(bytes.as_chunks::<8>().0).all(|(i, word)| *word == mixed(i).to_le_bytes())
}

fn mixed(i: u64) -> u64 {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (i << 7)
}
