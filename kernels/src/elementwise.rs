//! RMSNorm, rotary embedding, SwiGLU, exp and ln. No libm, whose results differ between machines, but for the angles of
//! the rotary embedding: there [`RopeTable::fingerprint`] tells.

use crate::quantize::ROUND;
use crate::simd::{Portable, Simd};
use crate::tier::Kernel;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has few bits, so that its products are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Below this the result is 0; above `EXP_MAX` it stays what it is there.
const EXP_MIN: f32 = -87.0;
const EXP_MAX: f32 = 88.0;
/// Minimax coefficients of Cephes' `expf`, highest power first.
const EXP_POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

/// e^x in each lane; exactly 1 at 0, 0 below −87 and for NaN, e^88 above 88.
#[inline(always)]
pub(crate) unsafe fn vexp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's promise: the instructions are there.
    unsafe {
        let clamped = S::min(S::max(x, S::splat(EXP_MIN)), S::splat(EXP_MAX));
        let magic = S::splat(ROUND);
        let t = S::fma(clamped, S::splat(LOG2_E), magic);
        let n = S::sub(t, magic);
        let r = S::fma(n, S::splat(-LN_2_HIGH), clamped);
        let r = S::fma(n, S::splat(-LN_2_LOW), r);
        let mut p = S::splat(EXP_POLYNOMIAL[0]);
        for c in &EXP_POLYNOMIAL[1..] {
            p = S::fma(p, r, S::splat(*c));
        }
        let p = S::fma(S::mul(p, r), r, r);
        let y = S::mul(S::add(p, S::splat(1.0)), S::pow2(t));
        S::keep_ge(x, S::splat(EXP_MIN), y)
    }
}

/// e^x, the same bits as in the kernels.
pub(crate) fn exp(x: f32) -> f32 {
    // SAFETY: the portable tier needs no instructions.
    unsafe { vexp::<Portable>([x; 16])[0] }
}

/// Natural logarithm of a positive normal number, within 2 units in the last place; by an atanh series in f64.
pub fn ln(x: f32) -> f32 {
    if x <= 0.0 || !x.is_finite() {
        return if x == 0.0 {
            f32::NEG_INFINITY
        } else if x > 0.0 {
            x
        } else {
            f32::NAN
        };
    }
    let bits = f64::from(x).to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let mut series = 0.0;
    for k in (0..10).rev() {
        series = series * z2 + 1.0 / f64::from(2 * k + 1);
    }
    (exponent as f64 * std::f64::consts::LN_2 + 2.0 * z * series) as f32
}

/// Rows that one thread works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// `out = x / sqrt(mean(x²) + eps) × weight`, row by row.
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: *const f32,
    pub(crate) out: *mut f32,
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) rows: Rows,
}

impl Kernel for RmsNorm<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        let width = self.weight.len();
        for row in self.rows.start..self.rows.end {
            // SAFETY: the caller's promise: both are good for these rows; width is a multiple of 16.
            unsafe {
                let (x, out) = (self.x.add(row * width), self.out.add(row * width));
                let mut squares = S::splat(0.0);
                for i in (0..width).step_by(16) {
                    let v = S::load(x.add(i));
                    squares = S::fma(v, v, squares);
                }
                let mean = S::hsum(squares) / width as f32;
                let factor = S::splat(1.0 / (mean + self.eps).sqrt());
                for i in (0..width).step_by(16) {
                    let v = S::mul(S::load(x.add(i)), factor);
                    S::store(out.add(i), S::mul(v, S::load(self.weight.as_ptr().add(i))));
                }
            }
        }
    }
}

/// `out = silu(gate) × up`; a row of `gate_up` is `width` gates, then `width` ups.
pub(crate) struct Swiglu {
    pub(crate) gate_up: *const f32,
    pub(crate) out: *mut f32,
    pub(crate) width: usize,
    pub(crate) rows: Rows,
}

impl Kernel for Swiglu {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        let n = self.width;
        for row in self.rows.start..self.rows.end {
            for i in (0..n).step_by(16) {
                // SAFETY: the caller's promise: both are good for these rows; width is a multiple of 16.
                unsafe {
                    let gate = S::load(self.gate_up.add(row * 2 * n + i));
                    let up = S::load(self.gate_up.add(row * 2 * n + n + i));
                    let e = vexp::<S>(S::sub(S::splat(0.0), gate));
                    let silu = S::div(gate, S::add(S::splat(1.0), e));
                    S::store(self.out.add(row * n + i), S::mul(silu, up));
                }
            }
        }
    }
}

/// `Σ exp((x − max) / divisor)` over a row, NaN as 0, terms to `out` unless it is null. Sixteen partial sums, then the tree.
pub(crate) struct ExpSum {
    pub(crate) x: *const f32,
    pub(crate) len: usize,
    pub(crate) max: f32,
    pub(crate) divisor: f32,
    pub(crate) out: *mut f32,
    pub(crate) sum: *mut f32,
}

impl Kernel for ExpSum {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        // SAFETY: the caller's promise: `x`, and `out` if it is there, are good for `len`.
        unsafe {
            let (max, divisor) = (S::splat(self.max), S::splat(self.divisor));
            let mut sums = S::splat(0.0);
            let whole = self.len / 16 * 16;
            for i in (0..whole).step_by(16) {
                let e = vexp::<S>(S::div(S::sub(S::load(self.x.add(i)), max), divisor));
                sums = S::add(sums, e);
                if !self.out.is_null() {
                    S::store(self.out.add(i), e);
                }
            }
            let mut sum = S::hsum(sums);
            for i in whole..self.len {
                let e = exp((*self.x.add(i) - self.max) / self.divisor);
                sum += e;
                if !self.out.is_null() {
                    *self.out.add(i) = e;
                }
            }
            *self.sum = sum;
        }
    }
}

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeForm {
    /// (2i, 2i + 1): GPT-J, and `llama` GGUF files, whose converter permutes the rows.
    Interleaved,
    /// (i, i + d/2): GPT-NeoX, and published checkpoints.
    HalfSplit,
}

/// Cosines and sines of rotary embedding (Su et al. 2021), computed once in f64.
#[derive(Debug)]
pub struct RopeTable {
    /// Angle per position of each pair.
    frequencies: Vec<f64>,
    /// `[position][pair]`: cosine, sine.
    table: Vec<[f32; 2]>,
}

/// The table grows by so many positions.
const ROPE_GROWTH: usize = 256;
/// Half a second of arithmetic at most.
const FINGERPRINT_POSITIONS: usize = 1 << 17;
/// Odd, so that no difference is lost: 2^64 over the golden ratio.
const FINGERPRINT_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Cosine and sine of each pair at a position.
fn angles(frequencies: &[f64], position: usize) -> impl Iterator<Item = [f32; 2]> {
    frequencies.iter().map(move |f| {
        let angle = position as f64 * f;
        [angle.cos() as f32, angle.sin() as f32]
    })
}

impl RopeTable {
    /// An empty table for `dim` elements of a head. `freq_factors` divide the frequencies (llama 3).
    pub fn new(dim: usize, theta: f32, freq_factors: Option<&[f32]>) -> Self {
        let frequency = |i: usize| {
            let base = f64::from(theta).powf(-2.0 * i as f64 / dim as f64);
            base / f64::from(freq_factors.map_or(1.0, |factors| factors[i]))
        };
        Self { frequencies: (0..dim / 2).map(frequency).collect(), table: Vec::new() }
    }

    /// Makes the table hold at least `positions` positions. Contexts are seldom used in full, so it grows with use.
    pub fn reach(&mut self, positions: usize) {
        if positions <= self.positions() {
            return;
        }
        let new = self.positions()..positions.next_multiple_of(ROPE_GROWTH);
        let frequencies = &self.frequencies;
        self.table.extend(new.flat_map(|position| angles(frequencies, position)));
    }

    /// Names the bits of a table for `positions` positions; beyond 2^17 of them it looks at so many only. `powf`, `cos`
    /// and `sin` come from the system, and another system may round them differently.
    pub fn fingerprint(&self, positions: usize) -> u64 {
        let step = positions.div_ceil(FINGERPRINT_POSITIONS).max(1);
        let entries = (0..positions).step_by(step).flat_map(|p| angles(&self.frequencies, p));
        entries.fold(0, |hash: u64, [cos, sin]| {
            let bits = u64::from(cos.to_bits()) << 32 | u64::from(sin.to_bits());
            (hash ^ bits).wrapping_mul(FINGERPRINT_FACTOR).rotate_left(29)
        })
    }

    /// Elements of a head that are rotated.
    pub fn dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.table.len() / self.frequencies.len().max(1)
    }

    /// Rotates one head at `position`.
    #[inline(always)]
    fn rotate(&self, head: &mut [f32], position: usize, form: RopeForm) {
        let half = self.frequencies.len();
        let angles = &self.table[position * half..(position + 1) * half];
        for (i, [cos, sin]) in angles.iter().enumerate() {
            let (a, b) = match form {
                RopeForm::Interleaved => (2 * i, 2 * i + 1),
                RopeForm::HalfSplit => (i, i + half),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}

/// Rotates the heads of some rows in place.
pub(crate) struct Rotate<'a> {
    /// The first head of row 0.
    pub(crate) x: *mut f32,
    pub(crate) stride: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    /// Of every row.
    pub(crate) positions: &'a [u32],
    pub(crate) table: &'a RopeTable,
    pub(crate) form: RopeForm,
    pub(crate) rows: Rows,
}

impl Kernel for Rotate<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        for row in self.rows.start..self.rows.end {
            for head in 0..self.heads {
                // SAFETY: the caller's promise: the rows have these heads, and nobody else touches them.
                let head = unsafe {
                    let at = self.x.add(row * self.stride + head * self.head_dim);
                    std::slice::from_raw_parts_mut(at, self.head_dim)
                };
                self.table.rotate(head, self.positions[row] as usize, self.form);
            }
        }
    }
}

#[cfg(test)]
mod tests;
