use super::*;
use crate::hits::best_hits;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MOONCAKE: &str = r#"{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 0, "input_length": 600, "output_length": 7, "hash_ids": [0, 9]}
{"timestamp": 3000, "input_length": 10, "output_length": 0, "hash_ids": [4]}
"#;

const AGENT: &str = r#"{"block_size": 64, "requests": [
{"t": 0, "in": 130, "out": 5, "api_time": 4.0, "think_time": 0, "h": [[1, 2]]},
{"t": 30.0, "duration_ms": 25000, "requests": [{"t": 0, "in": 64, "out": 1, "h": [[7, 1]]}]},
{"t": 12.0, "duration_ms": null, "requests": [{"t": 0, "in": 64, "out": 1, "h": [[8, 1]]}]},
{"t": 33.0, "in": 260, "out": 9, "think_time": 29.0, "h": [[1, 2], [5, 2]]}]}"#;

fn agent() -> Workload {
    read("a", AGENT.replace('\n', " ").as_bytes()).unwrap()
}

/// The recorded traces, where they are; said aloud when they are not.
fn recorded(name: &str) -> Option<Workload> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found: Option<PathBuf> =
        root.map(|dir| dir.join("../shared/traces").join(name)).find(|path| path.is_file());
    let Some(path) = found else {
        eprintln!("SKIPPED: ../shared/traces/{name} is not there");
        return None;
    };
    Some(read(name, &std::fs::read(path).unwrap()).unwrap())
}

#[test]
fn mooncake_lines_become_sessions_of_one_turn() {
    let workload = read("m", MOONCAKE.as_bytes()).unwrap();
    assert_eq!(
        (workload.requests(), workload.content_block, workload.is_closed_loop()),
        (3, 512, false)
    );
    assert_eq!(workload.turns[0].content, [Run { first: 0, count: 3 }]);
    assert_eq!(workload.turns[1].content, [Run { first: 0, count: 1 }, Run { first: 9, count: 1 }]);
    assert_eq!(workload.turns[2].output_tokens, 1, "an answer has a token");
    assert_eq!(workload.sessions[2].start, Start::At { micros: 3_000_000, tick: 3_000_000 });
}

#[test]
fn tied_timestamps_are_spread_over_their_tick_and_others_are_not() {
    let workload = read("m", MOONCAKE.as_bytes()).unwrap();
    let starts: Vec<u64> = session_starts(&workload, 1.0, 1).into_iter().flatten().collect();
    assert!(starts[0] < 3_000_000 && starts[1] < 3_000_000 && starts[0] != starts[1]);
    assert_eq!(starts[2], 3_000_000);
    let halved: Vec<u64> = session_starts(&workload, 2.0, 1).into_iter().flatten().collect();
    assert_eq!(halved, starts.iter().map(|at| at / 2).collect::<Vec<_>>());
    assert_ne!(session_starts(&workload, 1.0, 2), session_starts(&workload, 1.0, 1));
}

#[test]
fn azure_rows_keep_their_distance() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-02-28 23:59:59.9799600,4808,10\r\n2023-03-01 00:00:01.0319600,3180,8\r\n";
    let workload = read("z", text.as_bytes()).unwrap();
    let starts: Vec<u64> = session_starts(&workload, 1.0, 1).into_iter().flatten().collect();
    assert_eq!(starts, [0, 1_052_000]);
    assert_eq!((workload.turns[1].input_tokens, workload.turns[1].output_tokens), (3180, 8));
}

#[test]
fn agents_wait_for_the_sub_agents_that_they_waited_for() {
    let workload = agent();
    assert_eq!(workload.requests(), 4);
    // It ended at 30 after 25 s, so it began 1 s after the answer at 4; the other began at 12.
    assert_eq!(workload.turns[0].starts, [(1, 1_000_000), (2, 8_000_000)]);
    assert_eq!(workload.turns[1].think_micros, 3_000_000, "from the end of the first at 30 to 33");
    let parents: Vec<_> = workload.sessions.iter().map(|session| session.parent).collect();
    assert_eq!(parents, [None, Some(0), None], "the second was not waited for");
    assert!(workload.sessions[0].start == Start::Drawn && workload.is_closed_loop());
    assert_eq!(best_hits(&workload).hit_blocks, 2);
}

#[test]
fn packed_traces_are_unpacked() {
    let mut packed = Vec::new();
    lzma_rs::xz_compress(&mut MOONCAKE.as_bytes(), &mut packed).unwrap();
    assert_eq!(read("m", &packed), read("m", MOONCAKE.as_bytes()));
    packed.truncate(packed.len() / 2);
    assert!(read("m", &packed).is_err());
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let cases: [(&str, &str); 8] = [
        ("", "not known"),
        ("hello\n", "line 1"),
        ("{\"hash_ids\": [], \"timestamp\": 0}\n", "input_length"),
        (&MOONCAKE.replace("3000,", "-1,"), "line 3: `timestamp` is -1"),
        (&MOONCAKE.replace("600", "600000000000"), "line 2: `input_length`"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01 00:00:00,1,1\n", "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-01 00:00:00,1\n", "2 columns"),
        ("{\"block_size\": 64, \"requests\": [{\"t\": 0, \"in\": 5}]}", "lacks"),
    ];
    for (text, expected) in cases {
        let error = read("x", text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_trace_can_be_cut() {
    let workload = read("m", MOONCAKE.as_bytes()).unwrap();
    assert_eq!(workload.clone().limited(2).requests(), 2);
    assert_eq!(workload.clone().within(3_000_000).requests(), 2);
    assert_eq!(workload.clone().limited(0).requests(), 0);
    let agent = agent().limited(1);
    assert_eq!(
        (agent.requests(), agent.sessions.len()),
        (3, 2),
        "a session is kept whole, with whom it waits for"
    );
}

#[test]
fn the_generator_draws_the_same_again_and_grows_its_chats() {
    let settings = Synthetic::default();
    assert_eq!(generate(&settings), generate(&settings));
    let workload = generate(&settings);
    assert_eq!(workload.sessions.len(), 800);
    for session in &workload.sessions {
        let turns = &workload.turns[session.turns.start as usize..session.turns.end as usize];
        assert!(turns.windows(2).all(|pair| pair[0].input_tokens < pair[1].input_tokens));
        assert!(turns.iter().all(|turn| turn.content[0].first + 32 <= 8 * 32));
    }
    let hits = best_hits(&workload).token_ratio();
    assert!((0.6..0.9).contains(&hits), "{hits}");
}

#[test]
fn the_conversation_trace_has_the_published_hit_ratio_and_ties() {
    let Some(workload) = recorded("mooncake_conversation.jsonl.xz") else { return };
    assert_eq!(workload.requests(), 12_031);
    let hits = best_hits(&workload);
    assert!((hits.block_ratio() - 0.366).abs() < 5e-4, "{}", hits.block_ratio());
    assert!((hits.token_ratio() - 0.374).abs() < 5e-4, "{}", hits.token_ratio());
    let mut ticks: BTreeMap<u64, u32> = BTreeMap::new();
    for session in &workload.sessions {
        let Start::At { micros, .. } = session.start else { panic!("an open loop") };
        *ticks.entry(micros).or_default() += 1;
    }
    assert_eq!((ticks.len(), ticks.values().max()), (1180, Some(&28)));
    let mut starts: Vec<_> = session_starts(&workload, 1.0, 1).into_iter().flatten().collect();
    starts.sort_unstable();
    starts.dedup();
    assert!(starts.len() > 12_000, "spread");
}

#[test]
fn the_agent_trace_has_its_published_shape() {
    let Some(workload) = recorded("agentic_coding_even.jsonl.xz") else { return };
    assert_eq!(workload.requests(), 22_892);
    assert_eq!(workload.sessions.len(), 346 + 48);
    let hits = best_hits(&workload);
    assert!((hits.block_ratio() - 0.963).abs() < 5e-4, "{}", hits.block_ratio());
}

#[test]
fn the_code_trace_has_its_published_length() {
    let Some(workload) = recorded("azure_2023_code.csv.xz") else { return };
    assert_eq!(workload.requests(), 8819);
    let last = session_starts(&workload, 1.0, 1).into_iter().flatten().max().unwrap();
    assert_eq!(last / 1_000_000, 3435);
}

/// Text that is nearly a trace.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let seeds = [
        MOONCAKE.to_owned(),
        AGENT.replace('\n', " "),
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,4808,10\n".to_owned(),
    ];
    let mutated =
        (0usize..3, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8))
            .prop_map(move |(which, changes)| {
                let mut bytes = seeds[which].clone().into_bytes();
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            });
    let packed = prop::collection::vec(any::<u8>(), 0..200)
        .prop_map(|rest| [b"\xfd7zXZ\0".to_vec(), rest].concat());
    prop_oneof![mutated, packed, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn hostile_bytes_give_an_error_or_a_workload_that_holds_together(bytes in hostile()) {
        if let Ok(workload) = read("x", &bytes) {
            prop_assert!(workload.requests() > 0);
            for session in &workload.sessions {
                prop_assert!(session.turns.end as usize <= workload.turns.len());
            }
            for turn in &workload.turns {
                prop_assert!(turn.input_tokens >= 1 && turn.output_tokens >= 1);
            }
            session_starts(&workload, 0.5, 1);
        }
    }
}
