use super::*;
use crate::experiment::tests::report;

#[test]
fn every_policy_has_a_row_at_every_load_and_the_best_is_first() {
    let report = report();
    let text = table(&report);
    for load in ["load 50 %", "load 100 %"] {
        assert_eq!(text.matches(load).count(), 1, "{text}");
    }
    for policy in ["ours", "round-robin"] {
        assert_eq!(text.matches(policy).count(), 2);
    }
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    let widths: Vec<usize> = rows[..3].iter().map(|row| row.chars().count()).collect();
    assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "aligned: {text}");
}

#[test]
fn times_are_for_people() {
    assert_eq!([0.4, 999.0, 1234.0, 45_678.0].map(time), ["0ms", "999ms", "1.23s", "45.7s"]);
}
