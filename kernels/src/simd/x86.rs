//! AVX2 and AVX-512. Names and meanings are those of the trait.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is unsafe for one reason: the processor must have its tier's instructions"
)]

use super::{SCRAMBLE, Simd};
use std::arch::asm;
use std::arch::x86_64::*;

/// Two halves of eight lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

/// Calls an intrinsic on both halves.
macro_rules! both {
    ($f:ident, $a:expr) => {{
        let a = $a;
        [$f(a[0]), $f(a[1])]
    }};
    ($f:ident, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        [$f(a[0], b[0]), $f(a[1], b[1])]
    }};
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [_mm256_set1_ps(x); 2]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))]
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: Self::F) {
        _mm256_storeu_ps(p, x[0]);
        _mm256_storeu_ps(p.add(8), x[1]);
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        [
            _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast())),
        ]
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        let half = |p: *const u16| {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        [half(p), half(p.add(8))]
    }
    #[inline(always)]
    unsafe fn to_f16(x: Self::F) -> [u16; 16] {
        let mut out = [0u16; 16];
        let halves = out.as_mut_ptr();
        _mm_storeu_si128(halves.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]));
        _mm_storeu_si128(halves.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]));
        out
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    unsafe fn hmax(x: Self::F) -> f32 {
        let eight = _mm256_max_ps(x[0], x[1]);
        let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn keep_ge(x: Self::F, limit: Self::F, v: Self::F) -> Self::F {
        let half = |i: usize| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[i], limit[i]), v[i]);
        [half(0), half(1)]
    }
    #[inline(always)]
    unsafe fn first(n: usize, v: Self::F, other: Self::F) -> Self::F {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let half = |i: usize| {
            let limit = _mm256_set1_epi32(n as i32 - 8 * i as i32);
            let chosen = _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, lanes));
            _mm256_blendv_ps(other[i], v[i], chosen)
        };
        [half(0), half(1)]
    }
    #[inline(always)]
    unsafe fn pow2(t: Self::F) -> Self::F {
        let half = |t: __m256| {
            let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
            _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(0x3f80_0000)))
        };
        [half(t[0]), half(t[1])]
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> Self::I {
        [_mm256_set1_epi32(x); 2]
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Self::I {
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())]
    }
    #[inline(always)]
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    unsafe fn nibbles(x: Self::I) -> [Self::I; 4] {
        let mask = _mm256_set1_epi16(15);
        let low = |x: __m256i| _mm256_and_si256(x, mask);
        [
            [low(x[0]), low(x[1])],
            [low(_mm256_srli_epi16::<4>(x[0])), low(_mm256_srli_epi16::<4>(x[1]))],
            [low(_mm256_srli_epi16::<8>(x[0])), low(_mm256_srli_epi16::<8>(x[1]))],
            [_mm256_srli_epi16::<12>(x[0]), _mm256_srli_epi16::<12>(x[1])],
        ]
    }
    #[inline(always)]
    unsafe fn bytes(x: Self::I) -> [Self::I; 2] {
        let mask = _mm256_set1_epi16(255);
        [
            [_mm256_and_si256(x[0], mask), _mm256_and_si256(x[1], mask)],
            [_mm256_srli_epi16::<8>(x[0]), _mm256_srli_epi16::<8>(x[1])],
        ]
    }
    #[inline(always)]
    unsafe fn dot2(acc: Self::I, w: Self::I, a: *const i32) -> Self::I {
        let a = _mm256_set1_epi32(a.read_unaligned());
        let half = |acc: __m256i, w: __m256i| _mm256_add_epi32(acc, _mm256_madd_epi16(w, a));
        [half(acc[0], w[0]), half(acc[1], w[1])]
    }
    #[inline(always)]
    unsafe fn to_f32(x: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps, x)
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, x: Self::I) {
        _mm256_storeu_si256(p.cast(), x[0]);
        _mm256_storeu_si256(p.add(32).cast(), x[1]);
    }
    #[inline(always)]
    unsafe fn stream(p: *mut u8, x: Self::I) {
        _mm256_stream_si256(p.cast(), x[0]);
        _mm256_stream_si256(p.add(32).cast(), x[1]);
    }
    #[inline(always)]
    unsafe fn streamed() {
        _mm_sfence();
    }
    #[inline(always)]
    unsafe fn mix(acc: Self::I, data: Self::I, key: Self::I) -> Self::I {
        let mixed = both!(_mm256_xor_si256, data, key);
        let high = [_mm256_srli_epi64::<32>(mixed[0]), _mm256_srli_epi64::<32>(mixed[1])];
        let product = both!(_mm256_mul_epu32, mixed, high);
        let beside = [_mm256_shuffle_epi32::<0x4e>(data[0]), _mm256_shuffle_epi32::<0x4e>(data[1])];
        both!(_mm256_add_epi64, both!(_mm256_add_epi64, acc, product), beside)
    }
    #[inline(always)]
    unsafe fn scramble(acc: Self::I, key: Self::I) -> Self::I {
        let half = |acc: __m256i, key: __m256i| {
            let shifted = _mm256_srli_epi64::<47>(acc);
            let mixed = _mm256_xor_si256(_mm256_xor_si256(acc, shifted), key);
            let by = _mm256_set1_epi64x(i64::from(SCRAMBLE));
            let high = _mm256_mul_epu32(_mm256_srli_epi64::<32>(mixed), by);
            _mm256_add_epi64(_mm256_mul_epu32(mixed, by), _mm256_slli_epi64::<32>(high))
        };
        [half(acc[0], key[0]), half(acc[1], key[1])]
    }
}

/// Declares an AVX-512 tier; the tiers differ in the dot product alone.
macro_rules! avx512 {
    ($(#[$doc:meta])* $name:ident { $($dot:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;

        impl Simd for $name {
            type F = __m512;
            type I = __m512i;

            #[inline(always)]
            unsafe fn splat(x: f32) -> __m512 {
                _mm512_set1_ps(x)
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> __m512 {
                _mm512_loadu_ps(p)
            }
            #[inline(always)]
            unsafe fn store(p: *mut f32, x: __m512) {
                _mm512_storeu_ps(p, x);
            }
            #[inline(always)]
            unsafe fn load_f16(p: *const u16) -> __m512 {
                _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
            }
            #[inline(always)]
            unsafe fn load_bf16(p: *const u16) -> __m512 {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }
            #[inline(always)]
            unsafe fn to_f16(x: __m512) -> [u16; 16] {
                let mut out = [0u16; 16];
                let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
                _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
                out
            }
            #[inline(always)]
            unsafe fn add(a: __m512, b: __m512) -> __m512 {
                _mm512_add_ps(a, b)
            }
            #[inline(always)]
            unsafe fn sub(a: __m512, b: __m512) -> __m512 {
                _mm512_sub_ps(a, b)
            }
            #[inline(always)]
            unsafe fn mul(a: __m512, b: __m512) -> __m512 {
                _mm512_mul_ps(a, b)
            }
            #[inline(always)]
            unsafe fn div(a: __m512, b: __m512) -> __m512 {
                _mm512_div_ps(a, b)
            }
            #[inline(always)]
            unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
                _mm512_fmadd_ps(a, b, c)
            }
            #[inline(always)]
            unsafe fn max(a: __m512, b: __m512) -> __m512 {
                _mm512_max_ps(a, b)
            }
            #[inline(always)]
            unsafe fn min(a: __m512, b: __m512) -> __m512 {
                _mm512_min_ps(a, b)
            }
            #[inline(always)]
            unsafe fn hmax(x: __m512) -> f32 {
                _mm512_reduce_max_ps(x)
            }
            #[inline(always)]
            unsafe fn keep_ge(x: __m512, limit: __m512, v: __m512) -> __m512 {
                _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, limit), v)
            }
            #[inline(always)]
            unsafe fn first(n: usize, v: __m512, other: __m512) -> __m512 {
                let mask = ((1u32 << n.min(16)) - 1) as u16;
                _mm512_mask_mov_ps(other, mask, v)
            }
            #[inline(always)]
            unsafe fn pow2(t: __m512) -> __m512 {
                let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
                _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3f80_0000)))
            }
            #[inline(always)]
            unsafe fn isplat(x: i32) -> __m512i {
                _mm512_set1_epi32(x)
            }
            #[inline(always)]
            unsafe fn load_bytes(p: *const u8) -> __m512i {
                _mm512_loadu_si512(p.cast())
            }
            #[inline(always)]
            unsafe fn iadd(a: __m512i, b: __m512i) -> __m512i {
                _mm512_add_epi32(a, b)
            }
            #[inline(always)]
            unsafe fn nibbles(x: __m512i) -> [__m512i; 4] {
                let mask = _mm512_set1_epi16(15);
                [
                    _mm512_and_si512(x, mask),
                    _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask),
                    _mm512_and_si512(_mm512_srli_epi16::<8>(x), mask),
                    _mm512_srli_epi16::<12>(x),
                ]
            }
            #[inline(always)]
            unsafe fn bytes(x: __m512i) -> [__m512i; 2] {
                let mask = _mm512_set1_epi16(255);
                [_mm512_and_si512(x, mask), _mm512_srli_epi16::<8>(x)]
            }
            $($dot)*
            #[inline(always)]
            unsafe fn to_f32(x: __m512i) -> __m512 {
                _mm512_cvtepi32_ps(x)
            }
            #[inline(always)]
            unsafe fn store_bytes(p: *mut u8, x: __m512i) {
                _mm512_storeu_si512(p.cast(), x);
            }
            #[inline(always)]
            unsafe fn stream(p: *mut u8, x: __m512i) {
                _mm512_stream_si512(p.cast(), x);
            }
            #[inline(always)]
            unsafe fn streamed() {
                _mm_sfence();
            }
            #[inline(always)]
            unsafe fn mix(acc: __m512i, data: __m512i, key: __m512i) -> __m512i {
                let mixed = _mm512_xor_si512(data, key);
                let product = _mm512_mul_epu32(mixed, _mm512_srli_epi64::<32>(mixed));
                let beside = _mm512_shuffle_epi32::<0x4e>(data);
                _mm512_add_epi64(_mm512_add_epi64(acc, product), beside)
            }
            #[inline(always)]
            unsafe fn scramble(acc: __m512i, key: __m512i) -> __m512i {
                let shifted = _mm512_srli_epi64::<47>(acc);
                let mixed = _mm512_xor_si512(_mm512_xor_si512(acc, shifted), key);
                let by = _mm512_set1_epi64(i64::from(SCRAMBLE));
                let high = _mm512_mul_epu32(_mm512_srli_epi64::<32>(mixed), by);
                _mm512_add_epi64(_mm512_mul_epu32(mixed, by), _mm512_slli_epi64::<32>(high))
            }
        }
    };
}

avx512! {
    /// AVX-512 F, BW, VL, DQ.
    Avx512 {
        #[inline(always)]
        unsafe fn dot2(acc: __m512i, w: __m512i, a: *const i32) -> __m512i {
            let a = _mm512_set1_epi32(a.read_unaligned());
            _mm512_add_epi32(acc, _mm512_madd_epi16(w, a))
        }
    }
}
avx512! {
    /// And VNNI.
    Avx512Vnni {
        #[inline(always)]
        unsafe fn dot2(acc: __m512i, w: __m512i, a: *const i32) -> __m512i {
            _mm512_dpwssd_epi32(acc, w, _mm512_set1_epi32(a.read_unaligned()))
        }
        #[inline(always)]
        unsafe fn dot16(acc: __m512i, w: &[__m512i; 8], a: *const i32) -> __m512i {
            dot16_vnni(acc, w, a)
        }
    }
}

/// In assembly, because LLVM splits the intrinsic into multiplication and addition to shorten the chain, which costs a
/// third of the speed here, where other chains fill the gaps.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot16_vnni(acc: __m512i, w: &[__m512i; 8], a: *const i32) -> __m512i {
    let mut acc = acc;
    asm!(
        "vpdpwssd {acc}, {w0}, dword ptr [{a}]{{1to16}}",
        "vpdpwssd {acc}, {w1}, dword ptr [{a} + 4]{{1to16}}",
        "vpdpwssd {acc}, {w2}, dword ptr [{a} + 8]{{1to16}}",
        "vpdpwssd {acc}, {w3}, dword ptr [{a} + 12]{{1to16}}",
        "vpdpwssd {acc}, {w4}, dword ptr [{a} + 16]{{1to16}}",
        "vpdpwssd {acc}, {w5}, dword ptr [{a} + 20]{{1to16}}",
        "vpdpwssd {acc}, {w6}, dword ptr [{a} + 24]{{1to16}}",
        "vpdpwssd {acc}, {w7}, dword ptr [{a} + 28]{{1to16}}",
        acc = inout(zmm_reg) acc,
        a = in(reg) a,
        w0 = in(zmm_reg) w[0],
        w1 = in(zmm_reg) w[1],
        w2 = in(zmm_reg) w[2],
        w3 = in(zmm_reg) w[3],
        w4 = in(zmm_reg) w[4],
        w5 = in(zmm_reg) w[5],
        w6 = in(zmm_reg) w[6],
        w7 = in(zmm_reg) w[7],
        options(pure, readonly, nostack, preserves_flags),
    );
    acc
}
