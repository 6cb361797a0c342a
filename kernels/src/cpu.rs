//! The operators of the CPU backend: kernels spread over threads.
//!
//! Threads split outputs or rows, never a sum, so their number cannot show in a result.

use crate::attention::{AttentionJob, AttentionSeq, KvView, StoreKv};
use crate::elementwise::{ExpSum, RmsNorm, RopeForm, RopeTable, Rotate, Rows, Swiglu};
use crate::matmul::{Input, Matmul, Output};
use crate::memory::KvCache;
use crate::pack::PackedLinear;
use crate::quantize::{Activations, RawActivations};
use crate::simd::Simd;
use crate::threads::{StepGuard, ThreadPool};
use crate::tier::{Kernel, Tier, launch};

/// What a linear layer does with its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Replaces it.
    Store,
    /// Adds to it, once, after the sum: the residual.
    Add,
}

/// Some columns of a row-major matrix: row `r` starts at `r × stride + offset`.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The matrix.
    pub data: &'a [f32],
    /// Elements of a row.
    pub stride: usize,
    /// The first of the columns.
    pub offset: usize,
}

/// With fewer rows than this, small operators are done by the caller: it is faster than asking.
const ROWS_TO_SHARE: usize = 5;
/// Pieces of a job for each thread: threads that are held up leave pieces to others.
const PIECES: usize = 4;
/// Rows of one piece of a linear layer.
const ROW_BLOCK: usize = 128;
/// Rows of one attention job.
const ATTENTION_ROWS: usize = 8;

/// Changes whenever the bits of a result may.
const NUMERICS: &str = "cpu-int16-g32-v2";

/// Kernels of one tier on a pool of threads.
#[derive(Debug)]
pub struct CpuKernels {
    tier: Tier,
    pool: ThreadPool,
    activations: Activations,
    /// To see whether slots are distinct.
    sorted: Vec<u32>,
}

/// A pointer that threads may share because they write disjoint places.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: each use says why places are disjoint.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(self) -> *mut T {
        self.0
    }
}

/// Quantises some rows.
struct QuantizeRows {
    x: *const f32,
    to: RawActivations,
    rows: Rows,
}

impl Kernel for QuantizeRows {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        for row in self.rows.start..self.rows.end {
            // SAFETY: the caller's promise: these rows are ours.
            unsafe { self.to.quantize_row::<S>(row, self.x.add(row * self.to.cols)) };
        }
    }
}

impl CpuKernels {
    /// Kernels of `tier` on `threads` threads, the caller's included.
    ///
    /// # Panics
    /// When the processor lacks the tier.
    pub fn new(tier: Tier, threads: usize) -> Self {
        assert!(tier.is_supported(), "this processor has no {}", tier.as_str());
        let (activations, sorted) = (Activations::default(), Vec::new());
        Self { tier, pool: ThreadPool::new(threads), activations, sorted }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Names everything that determines the bits of a result. The same for every tier.
    pub fn numerics_id(&self) -> &'static str {
        NUMERICS
    }

    /// Operators follow each other closely while the guard lives.
    pub fn step(&self) -> StepGuard {
        self.pool.step()
    }

    /// Splits `rows` into ranges and runs a kernel on each, or on all of them here when they are few.
    fn share_rows<K: Kernel>(&mut self, rows: usize, kernel: impl Fn(Rows) -> K + Sync) {
        let pieces = if rows < ROWS_TO_SHARE { 1 } else { rows.min(self.threads() * PIECES) };
        self.share(pieces, |i| {
            kernel(Rows { start: rows * i / pieces, end: rows * (i + 1) / pieces })
        });
    }

    /// Runs the kernels of `pieces` pieces on all threads.
    fn share<K: Kernel>(&mut self, pieces: usize, kernel: impl Fn(usize) -> K + Sync) {
        let tier = self.tier;
        self.pool.run(pieces, &|i| {
            // SAFETY: `new` has checked the tier; each caller has checked the kernel's sizes.
            unsafe { launch(tier, &kernel(i)) };
        });
    }

    /// `out[r][o] = Σ_k x[r][k] × w[o][k]` for `rows` rows, or added to what is there.
    ///
    /// # Panics
    /// When the slices do not have the layer's sizes.
    pub fn linear(
        &mut self,
        w: &PackedLinear,
        x: &[f32],
        rows: usize,
        out: &mut [f32],
        mode: Mode,
    ) {
        assert!(x.len() >= rows * w.cols() && out.len() >= rows * w.rows(), "sizes of a layer");
        let quantised = w.parts.iter().any(|part| part.format.is_quantised());
        self.activations.resize(if quantised { rows } else { 0 }, w.cols());
        let input = Input { x: x.as_ptr(), quantised: self.activations.raw() };
        if quantised {
            let input = &input;
            self.share_rows(rows, |rows| QuantizeRows { x: input.x, to: input.quantised, rows });
        }
        let output = Output { data: out.as_mut_ptr(), stride: w.rows(), add: mode == Mode::Add };
        let tiles: usize = w.parts.iter().map(|part| part.tiles()).sum();
        let width = tiles.div_ceil(self.threads() * PIECES).max(1);
        let columns = tiles.div_ceil(width);
        self.share(columns * rows.div_ceil(ROW_BLOCK), |i| {
            let (row, tile) = (i / columns * ROW_BLOCK, i % columns * width);
            Matmul {
                weights: w,
                input,
                output,
                tiles: tile..tiles.min(tile + width),
                rows: Rows { start: row, end: rows.min(row + ROW_BLOCK) },
            }
        });
    }

    /// The rows of an embedding table, one a token, as f32.
    ///
    /// # Panics
    /// When a token is not in the table, or `out` too small.
    pub fn embed(&mut self, table: &PackedLinear, tokens: &[u32], out: &mut [f32]) {
        assert!(out.len() >= tokens.len() * table.cols(), "a row for each token");
        for (token, out) in tokens.iter().zip(out.chunks_exact_mut(table.cols())) {
            assert!((*token as usize) < table.rows(), "token ids are below the vocabulary's size");
            table.row(*token as usize, out);
        }
    }

    /// `out = x / sqrt(mean(x²) + eps) × weight` for `rows` rows.
    ///
    /// # Panics
    /// When the slices do not have `rows` rows of the weight's width, a multiple of 16.
    pub fn rms_norm(&mut self, x: &[f32], rows: usize, weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        assert!(
            width.is_multiple_of(16) && x.len() >= rows * width && out.len() >= rows * width,
            "sizes of a norm"
        );
        let (x, out) = (Shared(x.as_ptr().cast_mut()), Shared(out.as_mut_ptr()));
        self.share_rows(rows, |rows| RmsNorm { x: x.get(), out: out.get(), weight, eps, rows });
    }

    /// `out = silu(gate) × up`; a row of `gate_up` is `width` gates, then `width` ups.
    ///
    /// # Panics
    /// When the slices do not have `rows` rows of that width, a multiple of 16.
    pub fn swiglu(&mut self, gate_up: &[f32], rows: usize, width: usize, out: &mut [f32]) {
        assert!(
            width.is_multiple_of(16)
                && gate_up.len() >= rows * 2 * width
                && out.len() >= rows * width,
            "sizes"
        );
        let (gate_up, out) = (Shared(gate_up.as_ptr().cast_mut()), Shared(out.as_mut_ptr()));
        self.share_rows(rows, |rows| Swiglu {
            gate_up: gate_up.get(),
            out: out.get(),
            width,
            rows,
        });
    }

    /// Rotates `heads` heads of `head_dim` elements in each row, from column `offset` on.
    ///
    /// # Panics
    /// When a row is too short, or a position is beyond the table.
    #[expect(clippy::too_many_arguments, reason = "the shape of a batch of heads")]
    pub fn rope(
        &mut self,
        x: &mut [f32],
        stride: usize,
        offset: usize,
        heads: usize,
        head_dim: usize,
        positions: &[u32],
        table: &RopeTable,
        form: RopeForm,
    ) {
        assert!(
            offset + heads * head_dim <= stride && x.len() >= positions.len() * stride,
            "sizes of heads"
        );
        assert!(table.dim() <= head_dim, "the rotated part of a head");
        assert!(positions.iter().all(|p| (*p as usize) < table.positions()), "positions");
        let x = Shared(x.as_mut_ptr());
        self.share_rows(positions.len(), |rows| Rotate {
            x: x.get().wrapping_add(offset),
            stride,
            heads,
            head_dim,
            positions,
            table,
            form,
            rows,
        });
    }

    /// Stores the keys and values of the batch's rows into their slots (`block × block_size + offset`).
    /// Their blocks must be the caller's to write: see [`KvCache`].
    ///
    /// # Panics
    /// When columns are too short, a slot is outside the pool or there twice, or there is no such layer.
    pub fn store_kv(
        &mut self,
        k: Columns<'_>,
        v: Columns<'_>,
        slots: &[u32],
        cache: &mut KvCache,
        layer: usize,
    ) {
        let (layout, kv) = (cache.layout(), KvView::new(cache, layer));
        let width = (layout.kv_heads * layout.head_dim) as usize;
        for columns in [&k, &v] {
            assert!(columns.offset + width <= columns.stride, "columns of keys and values");
            assert!(columns.data.len() >= slots.len() * columns.stride, "rows of keys and values");
        }
        assert!(k.stride == v.stride, "keys and values are columns of one matrix");
        let end = u64::from(layout.num_blocks) * u64::from(layout.block_size);
        assert!(slots.iter().all(|slot| u64::from(*slot) < end), "slots are inside the pool");
        // Threads write different rows, so rows must go to different places.
        assert!(self.are_distinct(slots), "each slot is written once");
        let (k_at, v_at) = (Shared(k.data.as_ptr().cast_mut()), Shared(v.data.as_ptr().cast_mut()));
        self.share_rows(slots.len(), |rows| StoreKv {
            k: k_at.get().wrapping_add(k.offset),
            v: v_at.get().wrapping_add(v.offset),
            stride: k.stride,
            slots: &slots[rows.start..rows.end],
            row: rows.start,
            kv,
        });
    }

    /// Slots of a batch are a few rising runs, which sorting is quick with.
    fn are_distinct(&mut self, slots: &[u32]) -> bool {
        let rising = |slots: &[u32]| slots.is_sorted_by(|a, b| a < b);
        if rising(slots) {
            return true;
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(slots);
        self.sorted.sort();
        rising(&self.sorted)
    }

    /// Causal attention of `heads` query heads; each row sees the keys up to its own position, as stored. Results go to
    /// `out`, `[rows][heads × head_dim]`.
    ///
    /// # Panics
    /// When sizes do not fit, sequences do not follow each other in the batch, or a block table is too short for its rows.
    #[expect(clippy::too_many_arguments, reason = "queries, keys and where they are")]
    pub fn attention(
        &mut self,
        q: Columns<'_>,
        heads: usize,
        scale: f32,
        seqs: &[AttentionSeq<'_>],
        cache: &KvCache,
        layer: usize,
        out: &mut [f32],
    ) {
        let (layout, kv) = (cache.layout(), KvView::new(cache, layer));
        let (kv_heads, dim) = (layout.kv_heads as usize, layout.head_dim as usize);
        let width = heads * dim;
        assert!(heads.is_multiple_of(kv_heads) && q.offset + width <= q.stride, "heads of a row");
        let mut free = 0;
        for seq in seqs {
            // Jobs of different sequences write their rows at the same time.
            assert!(
                free <= seq.rows.start && seq.rows.start <= seq.rows.end,
                "rows of one sequence"
            );
            free = seq.rows.end;
            let end = seq.start as usize + seq.rows.len();
            assert!(
                end.div_ceil(layout.block_size as usize) <= seq.block_table.len(),
                "blocks of a sequence"
            );
            assert!(seq.block_table.iter().all(|b| b.0 < layout.num_blocks), "blocks of the pool");
            assert!(
                q.data.len() >= seq.rows.end * q.stride && out.len() >= seq.rows.end * width,
                "rows"
            );
        }
        let (q_at, out) = (Shared(q.data.as_ptr().cast_mut()), Shared(out.as_mut_ptr()));
        let jobs = attention_jobs(seqs, kv_heads);
        self.share(jobs.len(), |i| {
            let (seq, kv_head, first) = jobs[i];
            let seq = &seqs[seq];
            AttentionJob {
                q: q_at.get().wrapping_add(q.offset),
                q_stride: q.stride,
                out: out.get(),
                out_stride: width,
                scale,
                group: heads / kv_heads,
                kv,
                kv_head,
                block_table: seq.block_table,
                row: seq.rows.start + first,
                position: seq.start as usize + first,
                rows: ATTENTION_ROWS.min(seq.rows.len() - first),
            }
        });
    }

    /// `Σ exp((x − max) / divisor)` in a fixed order, NaN as 0; each term goes to `out` too.
    ///
    /// # Panics
    /// When `out` has another length than `x`.
    pub fn exp_sum(&self, x: &[f32], max: f32, divisor: f32, out: Option<&mut [f32]>) -> f32 {
        let mut sum = 0.0;
        let out = out.map_or(std::ptr::null_mut(), |out| {
            assert_eq!(out.len(), x.len(), "as many terms");
            out.as_mut_ptr()
        });
        let kernel = ExpSum { x: x.as_ptr(), len: x.len(), max, divisor, out, sum: &mut sum };
        // SAFETY: `new` has checked the tier; `x` and `out` have this length.
        unsafe { launch(self.tier, &kernel) };
        sum
    }
}

/// (sequence, KV head, first row) of each job, those with the longest context first, so that threads end together.
fn attention_jobs(seqs: &[AttentionSeq<'_>], kv_heads: usize) -> Vec<(usize, usize, usize)> {
    let mut jobs = Vec::new();
    for (i, seq) in seqs.iter().enumerate() {
        for first in (0..seq.rows.len()).step_by(ATTENTION_ROWS) {
            jobs.extend((0..kv_heads).map(|head| (i, head, first)));
        }
    }
    jobs.sort_by_key(|(i, _, first)| std::cmp::Reverse(seqs[*i].start as usize + first));
    jobs
}

#[cfg(test)]
mod tests;
