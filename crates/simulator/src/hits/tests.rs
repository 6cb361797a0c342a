use super::*;
use crate::workload::{Run, Session, Start, Turn};

#[test]
fn a_prefix_that_came_before_is_a_hit_and_its_last_token_never() {
    let turn = |input_tokens, first, count| Turn {
        input_tokens,
        output_tokens: 1,
        content: vec![Run { first, count }],
        ..Turn::default()
    };
    let turns = vec![turn(1024, 0, 2), turn(1024, 0, 2), turn(1500, 0, 3), turn(600, 1, 2)];
    let start = Start::At { micros: 0, tick: 1 };
    let sessions = (0..4).map(|i| Session { start, turns: i..i + 1, namespace: 0, parent: None });
    let sessions = sessions.collect();
    let workload = Workload {
        name: String::new(),
        content_block: 512,
        turns,
        sessions,
        sessions_per_second: 0.0,
    };
    let hits = best_hits(&workload);
    assert_eq!(
        (hits.blocks, hits.hit_blocks),
        (9, 6),
        "ids stand for their prefix: 1 and 2 came before"
    );
    assert_eq!((hits.tokens, hits.hit_tokens), (4148, 1023 + 1024 + 599));
}
