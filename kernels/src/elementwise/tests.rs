use super::*;

#[test]
fn exp_and_ln_are_close_to_the_truth() {
    for i in -8600..=8800 {
        let x = i as f32 / 100.0;
        let (found, truth) = (f64::from(exp(x)), f64::from(x).exp());
        assert!((found / truth - 1.0).abs() < 3e-7, "exp({x}) = {found}, not {truth}");
    }
    assert_eq!((exp(0.0), exp(-0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 1.0, 0.0, 0.0));
    assert!(exp(1000.0).is_finite());
    for i in 1..100_000 {
        let x = i as f32 * 0.37;
        let truth = f64::from(x).ln();
        assert!((f64::from(ln(x)) - truth).abs() <= 1e-7 * truth.abs().max(1e-1), "ln({x})");
    }
    assert_eq!((ln(1.0), ln(0.0)), (0.0, f32::NEG_INFINITY));
    assert!(ln(-1.0).is_nan());
}

#[test]
fn rotation_keeps_lengths_and_angles_add_up() {
    let mut table = RopeTable::new(8, 10000.0, None);
    table.reach(64);
    for form in [RopeForm::Interleaved, RopeForm::HalfSplit] {
        let mut a: Vec<f32> = (0..8).map(|i| i as f32 - 3.0).collect();
        let mut b: Vec<f32> = (0..8).map(|i| (i * i) as f32 / 9.0).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let (mut c, mut d) = (a.clone(), b.clone());
        table.rotate(&mut a, 10, form);
        table.rotate(&mut b, 13, form);
        table.rotate(&mut c, 50, form);
        table.rotate(&mut d, 53, form);
        assert!((dot(&a, &b) - dot(&c, &d)).abs() < 1e-3, "only the distance counts");
    }
    let mut head = [1.0, 0.0, 0.0, 0.0];
    let mut table = RopeTable::new(4, 10000.0, None);
    table.reach(2);
    table.rotate(&mut head, 1, RopeForm::Interleaved);
    assert!((head[0] - 1f32.cos()).abs() < 1e-7 && (head[1] - 1f32.sin()).abs() < 1e-7);
}

#[test]
fn a_fingerprint_tells_tables_apart() {
    let of =
        |dim, theta, factors: Option<&[f32]>| RopeTable::new(dim, theta, factors).fingerprint(100);
    let plain = of(8, 10000.0, None);
    assert_eq!(plain, of(8, 10000.0, Some(&[1.0; 4])));
    let last_bit = f32::from_bits(1.0f32.to_bits() + 1);
    for other in [
        of(8, 500_000.0, None),
        of(8, 10000.0, Some(&[1.0, last_bit, 1.0, 1.0])),
        RopeTable::new(8, 10000.0, None).fingerprint(99),
    ] {
        assert_ne!(other, plain);
    }
}
