//! Activations as int16, in blocks of 32 along the row.
//!
//! The contract (part of the numerics id): `d = amax / 32767`; `q = round_half_even(x × (1/d))`, all zero when d is 0;
//! `s = d × Σq`. d and s stay f32. Rounding to even because that is what vector units do: half-away-from-zero differs on
//! exact ties, which random tests do not find.
//!
//! Why not int8, which halves the dot products: it moves the logits of a small model by 0.2 (root mean square), enough
//! to change every tenth greedy choice; int16 moves them by 0.003, as much as f16 keys and values do. Decoding one
//! sequence waits for memory either way.

use crate::simd::Simd;

/// Elements that share a scale.
pub(crate) const GROUP: usize = 32;

/// The largest code.
const CODE_MAX: f32 = 32767.0;

/// 1.5 × 2^23: adding it rounds a small f32 to an integer, ties to even, and leaves that integer in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Quantised rows of one width. Buffers are reused between calls.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    pub(crate) cols: usize,
    /// `[rows][cols]`
    pub(crate) q: Vec<i16>,
    /// `[rows][cols / 32]`: scale, scale × sum.
    pub(crate) scale: Vec<[f32; 2]>,
    /// `[rows][cols / 32]`: the sums of the first and of the second half.
    pub(crate) sum: Vec<[i32; 2]>,
}

impl Activations {
    /// Makes room for `rows` rows of `cols`.
    pub(crate) fn resize(&mut self, rows: usize, cols: usize) {
        self.cols = cols;
        let groups = rows * (cols / GROUP);
        if self.q.len() < rows * cols {
            self.q.resize(rows * cols, 0);
        }
        if self.sum.len() < groups {
            self.sum.resize(groups, [0; 2]);
            self.scale.resize(groups, [0.0; 2]);
        }
    }

    pub(crate) fn raw(&mut self) -> RawActivations {
        RawActivations {
            cols: self.cols,
            q: self.q.as_mut_ptr(),
            scale: self.scale.as_mut_ptr(),
            sum: self.sum.as_mut_ptr(),
        }
    }
}

/// [`Activations`] as threads share them: each row is written by one thread, then, after a barrier, read by all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawActivations {
    pub(crate) cols: usize,
    pub(crate) q: *mut i16,
    pub(crate) scale: *mut [f32; 2],
    pub(crate) sum: *mut [i32; 2],
}

// SAFETY: the kernels that share it write disjoint rows and read after a barrier.
unsafe impl Send for RawActivations {}
// SAFETY: as above.
unsafe impl Sync for RawActivations {}

impl RawActivations {
    /// Quantises the row `x` into row `row`.
    ///
    /// # Safety
    /// `x` is good for `cols` elements, the buffers for `row + 1` rows, and nobody else touches that row.
    #[inline(always)]
    pub(crate) unsafe fn quantize_row<S: Simd>(&self, row: usize, x: *const f32) {
        let groups = self.cols / GROUP;
        for g in 0..groups {
            // SAFETY: inside the row; the caller's promise.
            unsafe {
                let x = x.add(g * GROUP);
                let q = self.q.add(row * self.cols + g * GROUP);
                let (d, sum) = quantize_group::<S>(x, q);
                *self.scale.add(row * groups + g) = [d, d * (sum[0] + sum[1]) as f32];
                *self.sum.add(row * groups + g) = sum;
            }
        }
    }
}

/// One group: its scale and the sums of its codes' halves.
///
/// # Safety
/// `x` and `q` are good for 32 elements.
#[inline(always)]
unsafe fn quantize_group<S: Simd>(x: *const f32, q: *mut i16) -> (f32, [i32; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        let halves = [S::load(x), S::load(x.add(16))];
        let zero = S::splat(0.0);
        let abs = |v| S::max(v, S::sub(zero, v));
        let amax = S::hmax(S::max(abs(halves[0]), abs(halves[1])));
        let d = amax / CODE_MAX;
        // Infinite for zero and for numbers so small that they do not matter.
        let inverse = 1.0 / d;
        let inverse = S::splat(if inverse.is_finite() { inverse } else { 0.0 });
        let mut sums = [0; 2];
        for (half, sum) in sums.iter_mut().enumerate() {
            let mut rounded = [0f32; GROUP / 2];
            let codes = S::add(S::mul(halves[half], inverse), S::splat(ROUND));
            S::store(rounded.as_mut_ptr(), codes);
            for (i, r) in rounded.iter().enumerate() {
                // The low bits of the rounded number are its code.
                let code = r.to_bits() as i16;
                q.add(half * GROUP / 2 + i).write(code);
                *sum += i32::from(code);
            }
        }
        (d, sums)
    }
}

#[cfg(test)]
mod tests;
