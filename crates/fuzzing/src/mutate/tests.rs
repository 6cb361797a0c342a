use super::*;
use std::collections::BTreeSet;

fn inputs(seed: u64, corpus: &[&[u8]]) -> BTreeSet<Vec<u8>> {
    (0..2000).map(|i| input(&mut SplitMix64::new(seed * 10_000 + i), corpus, 100)).collect()
}

#[test]
fn inputs_are_many_short_enough_and_the_same_for_a_seed() {
    let corpus: [&[u8]; 2] = [b"{\"n\": 12, \"text\": \"hello\"}", b""];
    let some = inputs(1, &corpus);
    assert!(some.len() > 1000, "{}", some.len());
    assert!(some.iter().all(|bytes| bytes.len() <= 100));
    assert_eq!(some, inputs(1, &corpus));
    assert_ne!(some, inputs(2, &corpus));
    assert!(inputs(1, &[]).len() > 1000, "without a corpus too");
}

#[test]
fn numbers_in_text_reach_their_edges() {
    let some = inputs(1, &[b"{\"n\": 12}"]);
    let has = |text: &str| some.iter().any(|bytes| bytes == text.as_bytes());
    assert!(has("{\"n\": 18446744073709551615}") && has("{\"n\": 4294967295}"));
}
