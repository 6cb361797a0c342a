//! Linear layers: `out[r][o] = Σ_k x[r][k] × w[o][k]`.
//!
//! One accumulator for each output element, inputs in increasing order, whatever the number of rows: a row in a batch of
//! 512 gets the bits it gets alone. Register tiles of 8, 4 and 1 rows reuse each weight for all rows of the tile. For
//! quantised weights the integer dot product of 32 inputs is exact; then
//! `acc = fma(i, d_w × d_x, fma(m_w, s_x, acc))`.

use crate::elementwise::Rows;
use crate::pack::{Format, LANES, PackedLinear, Part};
use crate::quantize::{GROUP, RawActivations};
use crate::simd::Simd;
use crate::tier::Kernel;
use std::ops::Range;

/// Rows whose activations stay in the first-level cache while all of a thread's weights pass.
const ROW_CHUNK: usize = 32;

/// Where results go: `[rows][stride]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) data: *mut f32,
    pub(crate) stride: usize,
    /// Add to what is there (once, after the sum) instead of replacing it.
    pub(crate) add: bool,
}

// SAFETY: threads write disjoint columns.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// The activations of all rows, in both forms; a kernel reads the one its weights want.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub(crate) x: *const f32,
    pub(crate) quantised: RawActivations,
}

// SAFETY: only read.
unsafe impl Send for Input {}
// SAFETY: as above.
unsafe impl Sync for Input {}

/// The tiles `tiles` of the whole layer (counted over its parts), for some rows.
pub(crate) struct Matmul<'a> {
    pub(crate) weights: &'a PackedLinear,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) tiles: Range<usize>,
    pub(crate) rows: Rows,
}

impl Kernel for Matmul<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        let mut start = 0;
        for part in &self.weights.parts {
            let end = start + part.tiles();
            let own = self.tiles.start.max(start)..self.tiles.end.min(end);
            if own.start < own.end {
                let job = PartJob {
                    weights: self.weights.data().as_ptr().wrapping_add(part.offset),
                    tile_row: self.weights.tile_row_bytes(part),
                    cols: self.weights.cols(),
                    part,
                    input: self.input,
                    output: self.output,
                    tiles: own.start - start..own.end - start,
                    rows: self.rows,
                };
                // SAFETY: the caller's promise.
                unsafe { job.run::<S>() };
            }
            start = end;
        }
    }
}

/// The same within one part.
struct PartJob<'a> {
    weights: *const u8,
    /// Bytes of 16 outputs with all their inputs.
    tile_row: usize,
    cols: usize,
    part: &'a Part,
    input: Input,
    output: Output,
    tiles: Range<usize>,
    rows: Rows,
}

/// The sums of one register tile: `R` rows of 16 outputs.
trait Dot {
    /// # Safety
    /// `w` is a row of tiles, and the rows from `row` on are there.
    unsafe fn dot<S: Simd, const R: usize>(
        job: &PartJob<'_>,
        w: *const u8,
        row: usize,
    ) -> [S::F; R];
}

impl PartJob<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.part.format {
                Format::F32 => self.all_rows::<S, Floats<4, false>>(),
                Format::F16 => self.all_rows::<S, Floats<2, false>>(),
                Format::BF16 => self.all_rows::<S, Floats<2, true>>(),
                Format::Quantised { bits: 4, min: false, .. } => {
                    self.all_rows::<S, Quants<4, false, false, false>>();
                }
                Format::Quantised { bits: 4, wide: false, .. } => {
                    self.all_rows::<S, Quants<4, false, true, false>>();
                }
                Format::Quantised { bits: 4, .. } => {
                    self.all_rows::<S, Quants<4, false, true, true>>();
                }
                Format::Quantised { per_16: true, .. } => {
                    self.all_rows::<S, Quants<8, true, false, true>>();
                }
                Format::Quantised { min: false, .. } => {
                    self.all_rows::<S, Quants<8, false, false, false>>();
                }
                Format::Quantised { wide: false, .. } => {
                    self.all_rows::<S, Quants<8, false, true, false>>();
                }
                Format::Quantised { .. } => self.all_rows::<S, Quants<8, false, true, true>>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn all_rows<S: Simd, D: Dot>(&self) {
        for chunk in (self.rows.start..self.rows.end).step_by(ROW_CHUNK) {
            let end = self.rows.end.min(chunk + ROW_CHUNK);
            for tile in self.tiles.clone() {
                let mut row = chunk;
                // SAFETY: the caller's promise; rows stay below `end`.
                unsafe {
                    while row + 8 <= end {
                        self.tile::<S, D, 8>(tile, row);
                        row += 8;
                    }
                    if row + 4 <= end {
                        self.tile::<S, D, 4>(tile, row);
                        row += 4;
                    }
                    while row < end {
                        self.tile::<S, D, 1>(tile, row);
                        row += 1;
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, D: Dot, const R: usize>(&self, tile: usize, row: usize) {
        // SAFETY: the caller's promise: tile and rows are inside weights, input and output.
        unsafe {
            let sums = D::dot::<S, R>(self, self.weights.add(tile * self.tile_row), row);
            let lanes = LANES.min(self.part.rows - tile * LANES);
            for (r, sum) in sums.into_iter().enumerate() {
                let column = self.part.first + tile * LANES;
                let out = self.output.data.add((row + r) * self.output.stride + column);
                self.put::<S>(sum, out, lanes);
            }
        }
    }

    /// Writes the first `lanes` lanes.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, sum: S::F, out: *mut f32, lanes: usize) {
        // SAFETY: the caller's promise; a ragged tile goes through a buffer.
        unsafe {
            if lanes == LANES {
                S::store(out, if self.output.add { S::add(S::load(out), sum) } else { sum });
                return;
            }
            let mut buffer = [0.0; LANES];
            S::store(buffer.as_mut_ptr(), sum);
            for (i, value) in buffer[..lanes].iter().enumerate() {
                *out.add(i) = if self.output.add { *out.add(i) + value } else { *value };
            }
        }
    }
}

/// Weights that are floats of `BYTES` bytes; activations stay f32.
struct Floats<const BYTES: usize, const BRAIN: bool>;

impl<const BYTES: usize, const BRAIN: bool> Dot for Floats<BYTES, BRAIN> {
    #[inline(always)]
    unsafe fn dot<S: Simd, const R: usize>(
        job: &PartJob<'_>,
        w: *const u8,
        row: usize,
    ) -> [S::F; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let x = job.input.x.add(row * job.cols);
            let mut acc = [S::splat(0.0); R];
            for k in 0..job.cols {
                let w = w.add(k * LANES * BYTES);
                let w = match (BYTES, BRAIN) {
                    (4, _) => S::load(w.cast()),
                    (_, true) => S::load_bf16(w.cast()),
                    (_, false) => S::load_f16(w.cast()),
                };
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(w, S::splat(*x.add(r * job.cols + k)), *acc);
                }
            }
            acc
        }
    }
}

/// Quantised weights and int16 activations.
struct Quants<const BITS: usize, const PER_16: bool, const MIN: bool, const WIDE: bool>;

impl<const BITS: usize, const PER_16: bool, const MIN: bool, const WIDE: bool>
    Quants<BITS, PER_16, MIN, WIDE>
{
    const CODES: usize = LANES * GROUP * BITS / 8;
    const WIDTH: usize = if WIDE { 4 } else { 2 };
    const TILE: usize = Self::CODES + (1 + PER_16 as usize + MIN as usize) * LANES * Self::WIDTH;

    /// Half of the codes of a tile: eight pairs of inputs.
    #[inline(always)]
    unsafe fn codes<S: Simd>(at: *const u8) -> [S::I; 8] {
        // SAFETY: the caller's promise: `at` is half a tile.
        unsafe {
            if BITS == 4 {
                let [a, b, c, d] = S::nibbles(S::load_bytes(at));
                let [e, f, g, h] = S::nibbles(S::load_bytes(at.add(64)));
                return [a, b, c, d, e, f, g, h];
            }
            let [a, b] = S::bytes(S::load_bytes(at));
            let [c, d] = S::bytes(S::load_bytes(at.add(64)));
            let [e, f] = S::bytes(S::load_bytes(at.add(128)));
            let [g, h] = S::bytes(S::load_bytes(at.add(192)));
            [a, b, c, d, e, f, g, h]
        }
    }

    /// The `i`-th sixteen of scales or minimums.
    #[inline(always)]
    unsafe fn scales<S: Simd>(tile: *const u8, i: usize) -> S::F {
        // SAFETY: the caller's promise: `tile` is a whole tile.
        unsafe {
            let at = tile.add(Self::CODES + i * LANES * Self::WIDTH);
            if WIDE { S::load(at.cast()) } else { S::load_f16(at.cast()) }
        }
    }
}

impl<const BITS: usize, const PER_16: bool, const MIN: bool, const WIDE: bool> Dot
    for Quants<BITS, PER_16, MIN, WIDE>
{
    #[inline(always)]
    unsafe fn dot<S: Simd, const R: usize>(
        job: &PartJob<'_>,
        w: *const u8,
        row: usize,
    ) -> [S::F; R] {
        let Format::Quantised { offset, .. } = job.part.format else {
            unreachable!("a quantised part")
        };
        let groups = job.cols / GROUP;
        // SAFETY: the caller's promise.
        unsafe {
            let q = job.input.quantised.q.add(row * job.cols).cast_const();
            let scale = job.input.quantised.scale.add(row * groups).cast_const();
            let sum = job.input.quantised.sum.add(row * groups).cast_const();
            let mut acc = [S::splat(0.0); R];
            for g in 0..groups {
                let tile = w.add(g * Self::TILE);
                let codes = [Self::codes::<S>(tile), Self::codes::<S>(tile.add(Self::CODES / 2))];
                let d = Self::scales::<S>(tile, 0);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = q.add(r * job.cols + g * GROUP).cast::<i32>();
                    let sums = *sum.add(r * groups + g);
                    let [dx, sx] = *scale.add(r * groups + g);
                    if MIN {
                        *acc = S::fma(Self::scales::<S>(tile, 1), S::splat(sx), *acc);
                    }
                    // Two chains: the order of integer sums does not matter.
                    let half = |i: usize, start| S::dot16(start, &codes[i], a.add(8 * i));
                    if PER_16 {
                        // Here the offset is taken off half by half.
                        let low = S::to_f32(half(0, S::isplat(-offset * sums[0])));
                        let high = S::to_f32(half(1, S::isplat(-offset * sums[1])));
                        let dx = S::splat(dx);
                        *acc = S::fma(low, S::mul(d, dx), *acc);
                        *acc = S::fma(high, S::mul(Self::scales::<S>(tile, 1), dx), *acc);
                    } else {
                        let start = S::isplat(-offset * (sums[0] + sums[1]));
                        let i = S::iadd(half(0, start), half(1, S::isplat(0)));
                        *acc = S::fma(S::to_f32(i), S::mul(d, S::splat(dx)), *acc);
                    }
                }
            }
            acc
        }
    }
}
