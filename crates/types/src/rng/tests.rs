use super::*;

#[test]
fn noise_depends_on_seed_and_position_alone_and_is_uniform() {
    assert_eq!(unit_f32(7, 3), unit_f32(7, 3));
    assert_ne!(unit_f32(7, 3), unit_f32(7, 4));
    assert_ne!(unit_f32(7, 3), unit_f32(8, 3));
    let mut buckets = [0u32; 10];
    for position in 0..100_000 {
        let u = unit_f32(42, position);
        assert!((0.0..1.0).contains(&u));
        buckets[(u * 10.0) as usize] += 1;
    }
    assert!(buckets.iter().all(|&n| (9_500..10_500).contains(&n)), "{buckets:?}");
}

#[test]
fn below_stays_below() {
    let mut rng = SplitMix64::new(1);
    assert!((0..1000).all(|_| rng.below(7) < 7));
    assert_eq!(rng.below(0), 0);
}
