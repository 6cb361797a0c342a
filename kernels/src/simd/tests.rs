use super::*;
use estafette_types::SplitMix64;

#[test]
fn fused_multiplication_rounds_once() {
    let mut rng = SplitMix64::new(11);
    let mut any = || f32::from_bits(rng.next_u64() as u32);
    for _ in 0..300_000 {
        let (a, b, c) = (any(), any(), any());
        // Also sums that almost cancel, where a second rounding would show.
        let near = f32::from_bits((a * b).to_bits() ^ 0x8000_0001);
        for c in [c, -(a * b), near, near * 1e-7] {
            let (found, expected) = (fused(a, b, c), a.mul_add(b, c));
            let same = found.to_bits() == expected.to_bits();
            assert!(same || (found.is_nan() && expected.is_nan()), "{a:e} × {b:e} + {c:e}");
        }
    }
}
