use super::*;
use crate::tier::{Kernel, Tier, launch};

struct OneRow<'a>(&'a [f32], RawActivations);

impl Kernel for OneRow<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        // SAFETY: the test made room for one row.
        unsafe { self.1.quantize_row::<S>(0, self.0.as_ptr()) };
    }
}

fn quantize(tier: Tier, x: &[f32]) -> (Vec<i16>, Vec<[f32; 2]>, Vec<[i32; 2]>) {
    let mut activations = Activations::default();
    activations.resize(1, x.len());
    // SAFETY: only supported tiers are asked for.
    unsafe { launch(tier, &OneRow(x, activations.raw())) };
    (activations.q, activations.scale, activations.sum)
}

fn supported() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|tier| tier.is_supported())
}

#[test]
fn codes_follow_the_contract_on_exact_ties_and_extremes() {
    // amax = 32767 makes d = 1, so halves are exact ties: they go to even.
    let mut x = vec![0.0; 64];
    x[..8].copy_from_slice(&[32767.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -32767.0]);
    x[16] = -3.5;
    x[32] = f32::MIN_POSITIVE / 4.0;
    for tier in supported() {
        let (q, scale, sum) = quantize(tier, &x);
        assert_eq!(q[..8], [32767, 0, 2, 2, 0, -2, -2, -32767], "{tier:?}");
        assert_eq!((scale[0], sum[0]), ([1.0, -4.0], [0, -4]));
        assert_eq!(q[32..], [0; 32]);
    }
}

#[test]
fn zero_rows_are_zero() {
    for tier in supported() {
        let (q, scale, sum) = quantize(tier, &[0.0; 32]);
        assert!(q.iter().all(|code| *code == 0));
        assert_eq!((scale[0], sum[0]), ([0.0, 0.0], [0, 0]));
    }
}

#[test]
fn every_tier_gives_the_same_codes() {
    let mut rng = estafette_types::SplitMix64::new(3);
    let x: Vec<f32> = (0..32 * 500).map(|_| (rng.below(2001) as f32 - 1000.0) / 37.0).collect();
    let expected = quantize(Tier::Portable, &x);
    for tier in supported() {
        assert_eq!(quantize(tier, &x), expected, "{tier:?}");
    }
}
