use super::*;
use crate::workload::{Run, Session, Start};
use proptest::prelude::*;

fn workload(content_block: u32, prompts: &[(u32, &[Run])]) -> Workload {
    let turns: Vec<Turn> = prompts
        .iter()
        .map(|(input_tokens, content)| Turn {
            input_tokens: *input_tokens,
            output_tokens: 1,
            content: content.to_vec(),
            ..Turn::default()
        })
        .collect();
    let start = Start::At { micros: 0, tick: 1 };
    let sessions = (0..turns.len() as u32)
        .map(|i| Session { start, turns: i..i + 1, namespace: 0, parent: None })
        .collect();
    Workload { name: String::new(), content_block, turns, sessions, sessions_per_second: 0.0 }
}

fn shared(a: &[BlockHash], b: &[BlockHash]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[test]
fn equal_ids_share_and_what_has_none_does_not() {
    let run = |first, count| Run { first, count };
    let trace = workload(
        512,
        &[(1300, &[run(0, 3)]), (1300, &[run(0, 2), run(9, 1)]), (1300, &[run(0, 1)])],
    );
    let hashes: Vec<_> = (0..3).map(|turn| prompt_hashes(&trace, turn, 0, 64)).collect();
    assert_eq!(hashes.each_ref_len(), [20, 20, 20]);
    assert_eq!(shared(&hashes[0], &hashes[1]), 16, "two ids of 512 tokens");
    assert_eq!(shared(&hashes[0], &hashes[2]), 8);
    assert_eq!(shared(&hashes[0], &prompt_hashes(&trace, 0, 7, 64)), 0, "another namespace");
}

trait Lengths {
    fn each_ref_len(&self) -> Vec<usize>;
}

impl Lengths for Vec<Vec<BlockHash>> {
    fn each_ref_len(&self) -> Vec<usize> {
        self.iter().map(Vec::len).collect()
    }
}

#[test]
fn a_block_of_another_size_shares_what_it_covers_whole() {
    let run = |first, count| Run { first, count };
    let trace = workload(64, &[(1000, &[run(0, 15)]), (1000, &[run(0, 9), run(50, 6)])]);
    for (block_size, expected) in [(16, 36), (64, 9), (100, 5), (512, 1)] {
        let [a, b] = [0, 1].map(|turn| prompt_hashes(&trace, turn, 0, block_size));
        assert_eq!(a.len(), 1000 / block_size as usize);
        assert_eq!(shared(&a, &b), expected, "blocks of {block_size}");
    }
}

proptest! {
    #[test]
    fn blocks_are_shared_exactly_as_far_as_ids_are(
        common in 0u32..6, rest in 0u32..6, tail in 0u32..300, block_size in 1u32..200,
    ) {
        let ids = common + rest;
        let one = [Run { first: 0, count: ids }];
        let other = [Run { first: 0, count: common }, Run { first: 1000, count: rest }];
        let tokens = (ids * 128 + tail).max(1);
        let trace = workload(128, &[(tokens, &one), (tokens, &other)]);
        let [a, b] = [0, 1].map(|turn| prompt_hashes(&trace, turn, 0, block_size));
        // Without a rest all ids are equal, and only the tails differ.
        let equal = if rest == 0 { ids * 128 } else { common * 128 };
        prop_assert_eq!(shared(&a, &b) as u32, (equal / block_size).min(tokens / block_size));
    }
}
