//! Causal attention over the paged pool, prefill and decode alike.
//!
//! Keys come in tiles of one block (16 tokens) at absolute positions, so chunk and prefix borders cannot show. For each
//! row: scores of a tile in sixteen lanes, online softmax (Milakov and Gimelshein 2018, as in FlashAttention), then the
//! values in order of position. Keys and values are read as stored, also those of this step. Lanes beyond the row's
//! position are replaced before anything is computed with them, and their values are never multiplied.
//!
//! Up to eight query rows share each load of a tile: the heads of a group, and neighbouring positions.

use crate::elementwise::vexp;
use crate::memory::{KvCache, KvLayout};
use crate::simd::Simd;
use crate::tier::Kernel;
use estafette_types::BlockId;
use std::ops::Range;

/// Tokens in a block; lanes of a tile.
pub(crate) const TILE: usize = 16;
/// Query rows that share a tile.
const ROWS: usize = 8;
/// The largest head.
pub(crate) const HEAD_DIM_MAX: usize = 256;

/// The rows of one sequence in a step.
#[derive(Clone, Debug)]
pub struct AttentionSeq<'a> {
    /// Its rows in the batch.
    pub rows: Range<usize>,
    /// Position of the first one.
    pub start: u32,
    /// Its blocks, in the order of positions.
    pub block_table: &'a [BlockId],
}

/// One layer of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvView {
    base: *mut u8,
    layout: KvLayout,
    layer: u32,
}

impl KvView {
    /// # Panics
    /// When the pool has no such layer, or is not what the kernels are written for.
    pub(crate) fn new(cache: &KvCache, layer: usize) -> Self {
        let layout = cache.layout();
        assert!(layer < layout.layers as usize, "a layer of the pool");
        assert!(layout.block_size as usize == TILE, "blocks of 16 tokens");
        let dim = layout.head_dim as usize;
        assert!(dim.is_multiple_of(16) && dim <= HEAD_DIM_MAX, "heads of 16 to 256 elements");
        Self { base: cache.memory().as_ptr(), layout, layer: layer as u32 }
    }
}

// SAFETY: kernels read, and write only slots that are theirs.
unsafe impl Send for KvView {}
// SAFETY: as above.
unsafe impl Sync for KvView {}

/// Some rows of one sequence, for one KV head and the query heads that share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionJob<'a> {
    pub(crate) q: *const f32,
    pub(crate) q_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    pub(crate) scale: f32,
    /// Query heads that share a KV head.
    pub(crate) group: usize,
    pub(crate) kv: KvView,
    pub(crate) kv_head: usize,
    pub(crate) block_table: &'a [BlockId],
    /// First row in the batch, its position, and how many.
    pub(crate) row: usize,
    pub(crate) position: usize,
    pub(crate) rows: usize,
}

/// A query row in work: where it is, up to which position it sees, and its softmax so far.
#[derive(Clone, Copy)]
struct Query {
    q: *const f32,
    out: *mut f32,
    /// Keys it sees.
    visible: usize,
    max: f32,
}

impl Kernel for AttentionJob<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        let total = self.rows * self.group;
        let mut first = 0;
        while first < total {
            let count = ROWS.min(total - first);
            // SAFETY: the caller's promise: rows, heads and blocks are there.
            unsafe {
                if count > ROWS / 2 {
                    self.tile::<S, ROWS>(first, count);
                } else {
                    self.tile::<S, { ROWS / 2 }>(first, count);
                }
            }
            first += count;
        }
    }
}

impl AttentionJob<'_> {
    /// Query `i` of the job: rows outside, heads of the group inside.
    #[inline(always)]
    unsafe fn query(&self, i: usize) -> Query {
        let (row, head) = (i / self.group, i % self.group);
        let column = (self.kv_head * self.group + head) * self.kv.layout.head_dim as usize;
        // SAFETY: the caller's promise.
        unsafe {
            Query {
                q: self.q.add((self.row + row) * self.q_stride + column),
                out: self.out.add((self.row + row) * self.out_stride + column),
                visible: self.position + row + 1,
                max: f32::NEG_INFINITY,
            }
        }
    }

    /// `R` queries over all their keys. When there are fewer, the last one is computed again: its arithmetic is the
    /// same in every place.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize>(&self, first: usize, count: usize) {
        let dim = self.kv.layout.head_dim as usize;
        let mut acc = [[0.0f32; HEAD_DIM_MAX]; R];
        // SAFETY: the caller's promise.
        unsafe {
            let mut queries = [self.query(first); R];
            for (r, query) in queries.iter_mut().enumerate() {
                *query = self.query(first + r.min(count - 1));
            }
            let mut sums = [S::splat(0.0); R];
            // Visible counts grow with the index.
            let blocks = queries[R - 1].visible.div_ceil(TILE);
            for (b, block) in self.block_table[..blocks].iter().enumerate() {
                let key = self.kv.base.add(self.kv.layout.key_at(
                    block.0,
                    self.kv.layer,
                    self.kv_head as u32,
                ));
                let value = key.add(self.kv.layout.value_offset());
                let mut scores = Self::scores::<S, R>(&queries, key.cast(), dim);
                let mut p = [[0.0f32; TILE]; R];
                for r in 0..R {
                    let visible = queries[r].visible.saturating_sub(b * TILE).min(TILE);
                    let factor =
                        self.softmax::<S>(&mut queries[r], &mut scores[r], &mut sums[r], visible);
                    S::store(p[r].as_mut_ptr(), scores[r]);
                    if factor != 1.0 {
                        scale::<S>(&mut acc[r], factor, dim);
                    }
                }
                let visible = queries[R - 1].visible.saturating_sub(b * TILE).min(TILE);
                Self::values::<S, R>(&p, value.cast(), dim, visible, &mut acc);
            }
            for r in 0..count {
                let total = S::splat(1.0 / S::hsum(sums[r]));
                for d in (0..dim).step_by(16) {
                    S::store(queries[r].out.add(d), S::mul(S::load(acc[r].as_ptr().add(d)), total));
                }
            }
        }
    }

    /// q · K of one tile for each query, dimensions in order.
    #[inline(always)]
    unsafe fn scores<S: Simd, const R: usize>(
        queries: &[Query; R],
        key: *const u16,
        dim: usize,
    ) -> [S::F; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut scores = [S::splat(0.0); R];
            for d in 0..dim {
                let k = S::load_f16(key.add(d * TILE));
                for (score, query) in scores.iter_mut().zip(queries) {
                    *score = S::fma(S::splat(*query.q.add(d)), k, *score);
                }
            }
            scores
        }
    }

    /// Turns scores into weights relative to the running maximum; the factor by which what was summed before shrinks.
    #[inline(always)]
    unsafe fn softmax<S: Simd>(
        &self,
        query: &mut Query,
        scores: &mut S::F,
        sum: &mut S::F,
        visible: usize,
    ) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            if visible == 0 {
                *scores = S::splat(0.0);
                return 1.0;
            }
            let scaled = S::mul(*scores, S::splat(self.scale));
            let masked = S::first(visible, scaled, S::splat(f32::NEG_INFINITY));
            let max = query.max.max(S::hmax(masked));
            let p = S::first(visible, vexp::<S>(S::sub(masked, S::splat(max))), S::splat(0.0));
            let mut factor = 1.0;
            if max != query.max {
                let shrink = vexp::<S>(S::splat(query.max - max));
                *sum = S::mul(*sum, shrink);
                factor = S::hmax(shrink);
                query.max = max;
            }
            *sum = S::add(*sum, p);
            *scores = p;
            factor
        }
    }

    /// acc += p · V of one tile, tokens in order, four queries and sixty-four dimensions at a time.
    #[inline(always)]
    unsafe fn values<S: Simd, const R: usize>(
        p: &[[f32; TILE]; R],
        value: *const u16,
        dim: usize,
        visible: usize,
        acc: &mut [[f32; HEAD_DIM_MAX]; R],
    ) {
        for four in (0..R).step_by(4) {
            let mut d = 0;
            // SAFETY: the caller's promise; R is a multiple of 4 and dim of 16.
            unsafe {
                while d + 64 <= dim {
                    Self::value_tile::<S, R, 4>(p, value, dim, visible, acc, four, d);
                    d += 64;
                }
                while d < dim {
                    Self::value_tile::<S, R, 1>(p, value, dim, visible, acc, four, d);
                    d += 16;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn value_tile<S: Simd, const R: usize, const N: usize>(
        p: &[[f32; TILE]; R],
        value: *const u16,
        dim: usize,
        visible: usize,
        acc: &mut [[f32; HEAD_DIM_MAX]; R],
        four: usize,
        d: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; 4];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(acc[four + r].as_ptr().add(d + 16 * n));
                }
            }
            #[expect(clippy::needless_range_loop, reason = "a token of the tile, not of p alone")]
            for t in 0..visible {
                let mut v = [S::splat(0.0); N];
                for (n, v) in v.iter_mut().enumerate() {
                    *v = S::load_f16(value.add(t * dim + d + 16 * n));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = S::splat(p[four + r][t]);
                    for (sum, v) in sums.iter_mut().zip(v) {
                        *sum = S::fma(weight, v, *sum);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    S::store(acc[four + r].as_mut_ptr().add(d + 16 * n), *sum);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn scale<S: Simd>(acc: &mut [f32; HEAD_DIM_MAX], factor: f32, dim: usize) {
    for d in (0..dim).step_by(16) {
        // SAFETY: dim is at most HEAD_DIM_MAX and a multiple of 16.
        unsafe {
            let at = acc.as_mut_ptr().add(d);
            S::store(at, S::mul(S::load(at), S::splat(factor)));
        }
    }
}

/// Stores keys and values of some rows into their slots.
pub(crate) struct StoreKv<'a> {
    pub(crate) k: *const f32,
    pub(crate) v: *const f32,
    pub(crate) stride: usize,
    pub(crate) slots: &'a [u32],
    /// First row in the batch; `slots` are of the rows from there on.
    pub(crate) row: usize,
    pub(crate) kv: KvView,
}

/// The largest finite f16.
const F16_MAX: f32 = 65504.0;

impl Kernel for StoreKv<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        let layout = &self.kv.layout;
        let dim = layout.head_dim as usize;
        for (i, slot) in self.slots.iter().enumerate() {
            let (block, token) = (slot / layout.block_size, (slot % layout.block_size) as usize);
            for head in 0..layout.kv_heads {
                // SAFETY: the caller's promise: the slot is ours, the rows are there.
                unsafe {
                    let key =
                        self.kv.base.add(layout.key_at(block, self.kv.layer, head)).cast::<u16>();
                    let value = key.byte_add(layout.value_offset());
                    let column = (self.row + i) * self.stride + head as usize * dim;
                    for d in (0..dim).step_by(16) {
                        let k = half::<S>(self.k.add(column + d));
                        for (j, k) in k.into_iter().enumerate() {
                            key.add((d + j) * TILE + token).write(k);
                        }
                        let v = half::<S>(self.v.add(column + d));
                        value.add(token * dim + d).cast::<[u16; 16]>().write_unaligned(v);
                    }
                }
            }
        }
    }
}

/// Sixteen f16, limited to the finite ones: an infinity in the pool would spoil every later row.
#[inline(always)]
unsafe fn half<S: Simd>(x: *const f32) -> [u16; 16] {
    // SAFETY: the caller's promise: good for sixteen.
    unsafe {
        let limited = S::max(S::min(S::load(x), S::splat(F16_MAX)), S::splat(-F16_MAX));
        S::to_f16(limited)
    }
}
