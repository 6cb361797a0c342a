//! Sixteen lanes: the only place that knows instructions.
//!
//! Every operation is exact or correctly rounded, so all tiers give the same bits: i32 sums of u8 × i16 products
//! cannot overflow here, float operations round once, and reductions over lanes have one order.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is unsafe for one reason: the processor must have its tier's instructions"
)]

use half::{bf16, f16};

/// Operations on sixteen lanes. All functions are unsafe because the processor must have the instructions, and those
/// that take pointers because the pointers must be good for sixteen elements.
pub(crate) trait Simd: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, sixteen pairs of i16, or sixty-four bytes.
    type I: Copy;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn load_f16(p: *const u16) -> Self::F;
    unsafe fn load_bf16(p: *const u16) -> Self::F;
    /// Rounds to nearest, ties to even.
    unsafe fn to_f16(x: Self::F) -> [u16; 16];
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// a × b + c, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// The largest lane. Order does not matter; there is no NaN.
    unsafe fn hmax(x: Self::F) -> f32;
    /// `v` where x ≥ limit, else 0.
    unsafe fn keep_ge(x: Self::F, limit: Self::F, v: Self::F) -> Self::F;
    /// `v` in the first `n` lanes, `other` in the rest.
    unsafe fn first(n: usize, v: Self::F, other: Self::F) -> Self::F;
    /// 2^n, where `t` is n + 1.5 × 2^23.
    unsafe fn pow2(t: Self::F) -> Self::F;

    unsafe fn isplat(x: i32) -> Self::I;
    unsafe fn load_bytes(p: *const u8) -> Self::I;
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I;
    /// The four nibbles of each 16 bits, lowest first.
    unsafe fn nibbles(x: Self::I) -> [Self::I; 4];
    /// The two bytes of each 16 bits, low one first.
    unsafe fn bytes(x: Self::I) -> [Self::I; 2];
    /// In each lane: acc + the two products of the i16 in `w` and those at `a`, which are the same for each lane.
    unsafe fn dot2(acc: Self::I, w: Self::I, a: *const i32) -> Self::I;
    /// [`Simd::dot2`] eight times, with consecutive pairs at `a`.
    #[inline(always)]
    unsafe fn dot16(acc: Self::I, w: &[Self::I; 8], a: *const i32) -> Self::I {
        let mut acc = acc;
        for (i, w) in w.iter().enumerate() {
            acc = Self::dot2(acc, *w, a.add(i));
        }
        acc
    }
    unsafe fn to_f32(x: Self::I) -> Self::F;

    unsafe fn store_bytes(p: *mut u8, x: Self::I);
    /// Stores past the caches where the processor can. `p` is a multiple of 64.
    unsafe fn stream(p: *mut u8, x: Self::I);
    /// What was streamed before comes before what is stored from now on.
    unsafe fn streamed();
    /// In each of eight 64-bit lanes, with x = data ^ key: acc + low half of x × its high half + data of the lane beside it.
    unsafe fn mix(acc: Self::I, data: Self::I, key: Self::I) -> Self::I;
    /// In each of eight 64-bit lanes: (acc ^ acc >> 47 ^ key) × [`SCRAMBLE`].
    unsafe fn scramble(acc: Self::I, key: Self::I) -> Self::I;

    /// The sum of all lanes: always halves, quarters, eighths, in this order.
    #[inline(always)]
    unsafe fn hsum(x: Self::F) -> f32 {
        let mut lanes = [0.0f32; 16];
        Self::store(lanes.as_mut_ptr(), x);
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        lanes[0]
    }
}

/// An odd number of 32 bits: multiplying by it loses nothing.
pub(crate) const SCRAMBLE: u32 = 0x9E37_79B1;

/// Plain Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

#[inline(always)]
fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; 16] {
    let mut out = [T::default(); 16];
    for (i, x) in out.iter_mut().enumerate() {
        *x = f(i);
    }
    out
}

/// a × b + c, rounded once, where the processor has no instruction for it: a call of libm would cost more.
///
/// The product is exact in f64. The sum is rounded to odd (Boldo and Melquiond 2008), which makes the last rounding, to
/// f32, the right one.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(not(target_arch = "x86_64")) {
        return a.mul_add(b, c);
    }
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What the addition lost (Knuth's TwoSum).
    let rest = sum - product;
    let lost = (product - (sum - rest)) + (c - rest);
    let bits = sum.to_bits();
    let towards_lost = if (lost > 0.0) == (sum > 0.0) { bits + 1 } else { bits.wrapping_sub(1) };
    let inexact = lost.abs() > 0.0;
    f64::from_bits(if inexact && bits & 1 == 0 { towards_lost } else { bits }) as f32
}

impl Simd for Portable {
    type F = [f32; 16];
    type I = [u32; 16];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        each(|i| p.add(i).read())
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: Self::F) {
        p.cast::<[f32; 16]>().write_unaligned(x);
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        each(|i| f16::from_bits(p.add(i).read()).to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        each(|i| bf16::from_bits(p.add(i).read()).to_f32())
    }
    #[inline(always)]
    unsafe fn to_f16(x: Self::F) -> [u16; 16] {
        each(|i| f16::from_f32_const(x[i]).to_bits())
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each(|i| fused(a[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn hmax(x: Self::F) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn keep_ge(x: Self::F, limit: Self::F, v: Self::F) -> Self::F {
        each(|i| if x[i] >= limit[i] { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn first(n: usize, v: Self::F, other: Self::F) -> Self::F {
        each(|i| if i < n { v[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn pow2(t: Self::F) -> Self::F {
        each(|i| f32::from_bits((t[i].to_bits() << 23).wrapping_add(0x3f80_0000)))
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> Self::I {
        [x as u32; 16]
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Self::I {
        each(|i| p.add(4 * i).cast::<u32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I {
        each(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    unsafe fn nibbles(x: Self::I) -> [Self::I; 4] {
        let nibble = |n: usize| each(|i| (x[i] >> (4 * n)) & 0x000f_000f);
        [nibble(0), nibble(1), nibble(2), nibble(3)]
    }
    #[inline(always)]
    unsafe fn bytes(x: Self::I) -> [Self::I; 2] {
        [each(|i| x[i] & 0x00ff_00ff), each(|i| (x[i] >> 8) & 0x00ff_00ff)]
    }
    #[inline(always)]
    unsafe fn dot2(acc: Self::I, w: Self::I, a: *const i32) -> Self::I {
        let low = |x: u32| i32::from(x as i16);
        let high = |x: u32| i32::from((x >> 16) as i16);
        let a = a.cast::<u32>().read_unaligned();
        each(|i| {
            let sum = low(w[i]) * low(a) + high(w[i]) * high(a);
            acc[i].wrapping_add(sum as u32)
        })
    }
    #[inline(always)]
    unsafe fn to_f32(x: Self::I) -> Self::F {
        each(|i| x[i] as i32 as f32)
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, x: Self::I) {
        p.cast::<[u32; 16]>().write_unaligned(x);
    }
    #[inline(always)]
    unsafe fn stream(p: *mut u8, x: Self::I) {
        Self::store_bytes(p, x);
    }
    #[inline(always)]
    unsafe fn streamed() {}
    #[inline(always)]
    unsafe fn mix(acc: Self::I, data: Self::I, key: Self::I) -> Self::I {
        lanes(|i| {
            let mixed = lane(data, i) ^ lane(key, i);
            let product = (mixed & 0xffff_ffff) * (mixed >> 32);
            lane(acc, i).wrapping_add(product).wrapping_add(lane(data, i ^ 1))
        })
    }
    #[inline(always)]
    unsafe fn scramble(acc: Self::I, key: Self::I) -> Self::I {
        lanes(|i| {
            let acc = lane(acc, i);
            (acc ^ (acc >> 47) ^ lane(key, i)).wrapping_mul(u64::from(SCRAMBLE))
        })
    }
}

/// One of eight lanes of 64 bits.
#[inline(always)]
fn lane(x: [u32; 16], i: usize) -> u64 {
    u64::from(x[2 * i]) | u64::from(x[2 * i + 1]) << 32
}

/// Eight lanes of 64 bits.
#[inline(always)]
fn lanes(f: impl Fn(usize) -> u64) -> [u32; 16] {
    each(|i| (f(i / 2) >> (32 * (i % 2))) as u32)
}

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Avx512Vnni};

#[cfg(test)]
mod tests;
