use super::*;
use crate::policy::Policy;
use crate::presets::{DEFAULT_PRESET, preset};
use crate::workload::{Run, Session, Start, Synthetic, Turn, generate};

/// Prompts that share nothing: when they come, and their tokens.
fn apart(prompts: &[(u64, u32, u32)]) -> Workload {
    let turns: Vec<Turn> = prompts
        .iter()
        .map(|&(_, input_tokens, output_tokens)| Turn {
            input_tokens,
            output_tokens,
            ..Turn::default()
        })
        .collect();
    let sessions = prompts.iter().enumerate().map(|(i, &(micros, ..))| Session {
        start: Start::At { micros, tick: 1 },
        turns: i as u32..i as u32 + 1,
        namespace: 0,
        parent: None,
    });
    let sessions = sessions.collect();
    Workload { name: "apart".into(), content_block: 64, turns, sessions, sessions_per_second: 0.0 }
}

fn settings(prefill: u32, decode: u32) -> ClusterSettings {
    ClusterSettings::new(prefill, decode, preset(DEFAULT_PRESET).unwrap())
}

fn run(settings: &ClusterSettings, workload: &Workload, policy: Policy, seed: u64) -> Outcome {
    let outcome = simulate(settings, workload, policy, 1.0, seed, None, &mut |_| ()).unwrap();
    assert_eq!(outcome.leftover, None);
    outcome
}

fn ttft(outcome: &Outcome) -> Vec<u64> {
    outcome.records.iter().map(|record| record.ttft_micros().unwrap()).collect()
}

fn chats(seed: u64) -> Workload {
    generate(&Synthetic { sessions: 60, sessions_per_second: 2.0, seed, ..Synthetic::default() })
}

#[test]
fn one_worker_without_a_cache_is_a_queue_with_a_fixed_service_time() {
    // One prompt fills a step, so steps are served one by one, first come first served.
    let settings = ClusterSettings { decode_chunk: 512, ..settings(0, 1) };
    let gap = 20_000;
    let prompts: Vec<_> = (0..40).map(|i| (i * gap, 512, 1)).collect();
    let service = settings.step_times.isolated_micros(512, 512);
    assert!(service > gap, "it must queue");
    let outcome = run(&settings, &apart(&prompts), Policy::RoundRobin, 1);
    let mut free = 0;
    for (record, &(arrival, ..)) in outcome.records.iter().zip(&prompts) {
        free = free.max(arrival + settings.message_micros) + service;
        assert_eq!(record.first_token, Some(free + settings.message_micros));
    }
}

#[test]
fn two_workers_in_turns_are_two_queues_of_half_the_rate() {
    let two = ClusterSettings { decode_chunk: 512, ..settings(0, 2) };
    let one = ClusterSettings { decode: 1, ..two.clone() };
    let prompts: Vec<_> = (0..40).map(|i| (i * 14_000, 512, 1)).collect();
    let both = run(&two, &apart(&prompts), Policy::RoundRobin, 1);
    for part in 0..2 {
        let half: Vec<_> = prompts.iter().copied().skip(part).step_by(2).collect();
        let alone = ttft(&run(&one, &apart(&half), Policy::RoundRobin, 1));
        let shared: Vec<u64> = ttft(&both).into_iter().skip(part).step_by(2).collect();
        assert_eq!(shared, alone);
    }
}

#[test]
fn whoever_is_alone_waits_for_nobody() {
    let prompts: Vec<_> = (0..5).map(|i| (i * 60_000_000, 3000 * (i as u32 + 1), 20)).collect();
    for (prefill, policy) in [(0, Policy::Ours), (2, Policy::Ours), (2, Policy::Dynamo)] {
        let settings = settings(prefill, 2);
        let outcome = run(&settings, &apart(&prompts), policy, 1);
        for record in &outcome.records {
            let alone = settings.isolated_micros(record.input_tokens);
            let ttft = record.ttft_micros().unwrap();
            if record.handed_over || prefill == 0 {
                assert_eq!(ttft, alone);
            } else {
                // On the decode worker chunks are shorter.
                assert!(ttft >= alone && ttft < alone * 5 / 4, "{ttft} {alone}");
            }
        }
    }
}

#[test]
fn tokens_and_blocks_are_conserved() {
    let workload = chats(1);
    let asked: u64 = workload.turns.iter().map(|turn| u64::from(turn.input_tokens)).sum();
    let answered: u64 = workload.turns.iter().map(|turn| u64::from(turn.output_tokens)).sum();
    for policy in Policy::all() {
        for prefill in [0, 2] {
            let settings = settings(prefill, 2);
            let outcome = run(&settings, &workload, policy, 3);
            assert!(outcome.records.iter().all(|record| record.fate == Fate::Finished));
            assert_eq!(outcome.done.prompt, asked, "{} {prefill}", policy.name());
            assert_eq!(outcome.done.generated, answered);
            assert_eq!(outcome.done.computed + outcome.done.cached, asked);
            let cached: u64 = outcome.records.iter().map(|record| record.cached_tokens).sum();
            assert_eq!(outcome.done.cached, cached);
        }
    }
}

#[test]
fn a_pool_that_is_too_small_preempts_and_loses_nothing() {
    let workload = chats(1);
    for prefill in [0, 2] {
        // Room for about four chats.
        let settings = ClusterSettings { kv_blocks: 700, ..settings(prefill, 2) };
        let outcome = run(&settings, &workload, Policy::LeastWork, 1);
        assert!(outcome.records.iter().all(|record| record.fate == Fate::Finished));
        assert_eq!(outcome.done.prompt, outcome.done.cached + outcome.done.computed);
    }
}

#[test]
fn hand_offs_that_never_come_are_computed_by_the_decode_worker() {
    // Too slow by far: 64 tokens take 2 s.
    let settings = ClusterSettings {
        link_bytes_per_second: 10_000_000,
        hand_off_timeout_micros: 1_000_000,
        ..settings(1, 1)
    };
    let prompts: Vec<_> = (0..8).map(|i| (i * 100_000, 5000, 30)).collect();
    let outcome = run(&settings, &apart(&prompts), Policy::LeastWork, 1);
    assert!(
        outcome.records.iter().all(|record| record.fate == Fate::Finished && !record.handed_over)
    );
    assert_eq!(outcome.done.computed, 2 * 8 * 5000, "once by each of them");
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another_one() {
    let workload = chats(1).limited(100);
    for policy in Policy::all() {
        let log = |seed| {
            let mut bytes = Vec::new();
            let mut sink: &mut dyn std::io::Write = &mut bytes;
            let outcome = simulate(
                &settings(2, 2),
                &workload,
                policy,
                1.0,
                seed,
                Some(&mut sink),
                &mut |_| (),
            )
            .unwrap();
            assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes), outcome.log_hash);
            bytes
        };
        let first = log(5);
        assert_eq!(first, log(5), "{}", policy.name());
        assert_ne!(first, log(6));
    }
}

#[test]
fn a_policy_that_draws_more_does_not_change_who_comes_when() {
    // Nobody comes a second time, so arrivals do not depend on answers.
    let workload = generate(&Synthetic { turns: 1, sessions: 50, ..Synthetic::default() });
    let arrivals = |policy, seed| -> Vec<_> {
        run(&settings(0, 3), &workload, policy, seed)
            .records
            .iter()
            .map(|record| record.arrived)
            .collect()
    };
    let base = arrivals(Policy::RoundRobin, 1);
    assert_eq!(base, arrivals(Policy::Random, 1));
    assert_eq!(base, arrivals(Policy::Ours, 1));
    assert_ne!(base, arrivals(Policy::RoundRobin, 2));
}

#[test]
fn events_that_come_late_or_never_cost_hits_and_no_request() {
    let workload = chats(2);
    let hits = |settings: &ClusterSettings| -> u64 {
        let outcome = run(settings, &workload, Policy::Ours, 1);
        // While every worker's state is unknown a request finds none.
        let rejected =
            outcome.records.iter().filter(|record| record.fate == Fate::Rejected).count();
        let allowed = if settings.state_loss_ppm == 0 { 0 } else { outcome.records.len() / 20 };
        assert!(rejected <= allowed, "{rejected}");
        outcome.records.iter().map(|record| record.cached_tokens).sum()
    };
    let base = settings(2, 2);
    let exact = hits(&base);
    let late = hits(&ClusterSettings { state_micros: 120_000_000, ..base.clone() });
    let lossy = hits(&ClusterSettings { state_loss_ppm: 20_000, ..base });
    assert!(late < exact, "{late} of {exact} with a view two minutes old");
    assert!(lossy > exact * 8 / 10, "{lossy} of {exact} when 2 % of updates are lost and repaired");
}

#[test]
fn sub_agents_run_beside_each_other_and_the_next_turn_waits_for_the_last() {
    let turn = |think_micros, starts| Turn {
        input_tokens: 100,
        output_tokens: 2,
        think_micros,
        starts,
        ..Turn::default()
    };
    let turns = vec![
        turn(0, vec![(1, 1_000_000), (2, 2_000_000)]),
        turn(500_000, vec![]),
        turn(0, vec![]),
        turn(0, vec![]),
        turn(7_000_000, vec![]),
    ];
    let session = |start, turns, parent| Session { start, turns, namespace: 0, parent };
    let sessions = vec![
        session(Start::At { micros: 0, tick: 1 }, 0..2, None),
        session(Start::ByParent, 2..3, Some(0)),
        session(Start::ByParent, 3..5, Some(0)),
    ];
    let workload = Workload {
        name: String::new(),
        content_block: 64,
        turns,
        sessions,
        sessions_per_second: 0.0,
    };
    let outcome = run(&settings(0, 1), &workload, Policy::Ours, 1);
    let at = |turn: usize| outcome.records[turn].arrived.unwrap();
    let end = |turn: usize| outcome.records[turn].finished.unwrap();
    assert_eq!((at(2), at(3)), (end(0) + 1_000_000, end(0) + 2_000_000));
    assert_eq!(at(4), end(3) + 7_000_000);
    assert_eq!(at(1), end(4) + 500_000);
}

#[test]
fn what_is_not_done_in_time_is_unfinished() {
    let settings = ClusterSettings { end_micros: 1_000_000, ..settings(1, 1) };
    let workload = apart(&[(0, 1000, 2), (0, 60_000, 1000), (5_000_000, 10, 1)]);
    let outcome = simulate(&settings, &workload, Policy::Ours, 1.0, 1, None, &mut |_| ()).unwrap();
    let fates: Vec<_> = outcome.records.iter().map(|record| record.fate).collect();
    assert_eq!(fates, [Fate::Finished, Fate::Unfinished, Fate::Unfinished]);
    assert!(outcome.leftover.is_some());
}

#[test]
fn a_full_queue_lets_wait_and_a_full_room_rejects() {
    let full = ClusterSettings { max_waiting: 3, kv_blocks: 200, ..settings(0, 1) };
    let mut prompts: Vec<_> = (0..20).map(|i| (i * 1000, 10_000, 1)).collect();
    // Never fits.
    prompts.push((60_000_000, 20_000, 1));
    let rejected = |settings: &ClusterSettings| -> Vec<usize> {
        let outcome = run(settings, &apart(&prompts), Policy::LeastLoaded, 1);
        let records = outcome.records.iter().enumerate();
        records.filter(|(_, record)| record.fate == Fate::Rejected).map(|(i, _)| i).collect()
    };
    assert_eq!(rejected(&full), [20]);
    assert_eq!(rejected(&ClusterSettings { room: 10, ..full.clone() }).len(), 20 + 1 - 10 - 3);
    let hasty = ClusterSettings { room_wait_micros: 1_000_000, ..full };
    assert!(rejected(&hasty).len() > 10);
}

#[test]
fn a_refused_decode_leg_leaves_nothing_behind() {
    // Records are so old that decode workers are overrun and refuse.
    let late = ClusterSettings {
        max_waiting: 2,
        state_micros: 10_000_000,
        hand_off_timeout_micros: 500_000,
        ..settings(3, 1)
    };
    let prompts: Vec<_> = (0..60).map(|i| (i * 40_000, 3000, 300)).collect();
    for policy in [Policy::RoundRobin, Policy::Ours] {
        run(&late, &apart(&prompts), policy, 1);
    }
}

#[test]
fn one_shared_block_does_not_draw_everybody_to_one_worker() {
    // Every prompt begins with the same 512 tokens.
    let turns = (0..200).map(|i| Turn {
        input_tokens: 4096,
        output_tokens: 20,
        content: vec![Run { first: 0, count: 8 }, Run { first: 1000 * (i + 1), count: 56 }],
        ..Turn::default()
    });
    let mut workload = apart(&vec![(0, 1, 1); 200]);
    workload.turns = turns.collect();
    for (i, session) in workload.sessions.iter_mut().enumerate() {
        session.start = Start::At { micros: i as u64 * 100_000, tick: 1 };
    }
    let outcome = run(&settings(0, 4), &workload, Policy::Ours, 1);
    let slowest = ttft(&outcome).into_iter().max().unwrap();
    let alone = settings(0, 4).isolated_micros(4096);
    assert!(slowest < 3 * alone, "{slowest} µs against {alone} alone: a queue on one worker");
}

#[test]
fn settings_that_cannot_be_are_named() {
    let workload = apart(&[(0, 10, 1)]);
    let cases: [(&str, ClusterSettings); 4] = [
        ("decode", settings(1, 0)),
        ("link-bandwidth", ClusterSettings { link_bytes_per_second: 0, ..settings(1, 1) }),
        ("decode-chunk", ClusterSettings { decode_chunk: 10, ..settings(1, 1) }),
        ("state-loss", ClusterSettings { state_loss_ppm: 1_000_000, ..settings(1, 1) }),
    ];
    for (setting, settings) in cases {
        let error =
            simulate(&settings, &workload, Policy::Ours, 1.0, 1, None, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(&format!("`{setting}`")), "{error}");
    }
    assert!(simulate(&settings(1, 1), &workload, Policy::Ours, 0.0, 1, None, &mut |_| ()).is_err());
}
