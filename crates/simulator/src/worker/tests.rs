use super::*;
use crate::presets::{DEFAULT_PRESET, preset};

fn worker(blocks: u32) -> (Worker, StepTimes) {
    let config = SchedulerConfig {
        block_size: 64,
        num_blocks: blocks,
        max_num_batched_tokens: 2048,
        max_num_seqs: 8,
        max_waiting: 8,
        max_model_len: 100_000,
    };
    (Worker::new(config), preset(DEFAULT_PRESET).unwrap())
}

fn leg(turn: u32, mode: Mode, input_tokens: u32, output_tokens: u32) -> Message {
    let hashes = (0..input_tokens / 64)
        .map(|i| BlockHash((u128::from(turn) << 64) | (u128::from(i) + 1)))
        .collect();
    Message::Start(Box::new(Leg { turn, mode, input_tokens, output_tokens, hashes }))
}

/// Turns and steps until there is nothing to run; everything that came of it.
fn settle(worker: &mut Worker, times: &StepTimes) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut now = 0;
    while let Some(time) = worker.turn(now, times, &mut effects) {
        now += time.micros;
        worker.end_step(now, &mut effects);
    }
    effects
}

fn granted(effects: &[Effect]) -> Vec<u32> {
    let of = |effect: &Effect| {
        if let Effect::Granted { turn, .. } = effect { Some(*turn) } else { None }
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn a_step_is_sorted_into_prompts_and_decode_rows() {
    let (mut worker, times) = worker(100);
    worker.push(leg(1, Mode::Local, 3000, 3));
    let mut effects = Vec::new();
    let first = worker.turn(0, &times, &mut effects).unwrap();
    let work = StepWork { chunks: vec![(2048, 0)], ..StepWork::default() };
    assert_eq!(first, times.time(&work));
    worker.end_step(first.micros, &mut effects);
    let second = worker.turn(first.micros, &times, &mut effects).unwrap();
    let work = StepWork { chunks: vec![(952, 2048)], ..StepWork::default() };
    assert_eq!(second, times.time(&work));
    let ended = first.micros + 2 * second.micros;
    worker.end_step(ended, &mut effects);
    assert_eq!(worker.load().step_micros, 2 * second.micros, "what it took beside others");
    let third = worker.turn(ended, &times, &mut effects).unwrap();
    let work = StepWork { sequences: 1, context_tokens: 3001, ..StepWork::default() };
    assert_eq!(third, times.time(&work));
}

#[test]
fn grants_are_given_oldest_first_and_never_by_preempting() {
    let (mut worker, times) = worker(100);
    for turn in [1, 2, 3] {
        worker.push(leg(turn, Mode::Remote, 64 * 60, 4));
    }
    // The younger ones ask first.
    for turn in [3, 2, 1] {
        worker.push(Message::GrantWanted(turn));
    }
    assert_eq!(granted(&settle(&mut worker, &times)), [1], "two do not fit, and nobody overtakes");
    worker.push(Message::Delivered(1));
    let effects = settle(&mut worker, &times);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Finished { turn: 1, .. })));
    assert_eq!(granted(&effects), [2], "the blocks of the first are free again");
}

#[test]
fn blocks_of_a_prompt_are_held_until_they_are_released() {
    let (mut worker, times) = worker(100);
    worker.push(leg(1, Mode::PrefillOnly, 640, 50));
    let effects = settle(&mut worker, &times);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Computed { turn: 1, from: 0, to: 10, last: true }))
    );
    assert_eq!(worker.load().free_blocks, 90);
    assert!(worker.leftover().is_some());
    worker.push(Message::Released(1));
    settle(&mut worker, &times);
    assert_eq!(worker.leftover(), None);
}

#[test]
fn a_prompt_that_nobody_waits_for_any_more_lets_go_at_its_end() {
    let (mut worker, times) = worker(100);
    worker.push(leg(1, Mode::PrefillOnly, 4000, 50));
    let mut effects = Vec::new();
    worker.turn(0, &times, &mut effects);
    worker.push(Message::Released(1));
    worker.end_step(1, &mut effects);
    settle(&mut worker, &times);
    assert_eq!(worker.leftover(), None);
}

#[test]
fn a_hand_off_that_does_not_come_is_computed_here() {
    let (mut worker, times) = worker(100);
    worker.push(leg(1, Mode::Remote, 640, 3));
    worker.push(Message::GrantWanted(1));
    settle(&mut worker, &times);
    worker.push(Message::GiveUp(1));
    let effects = settle(&mut worker, &times);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Revoked { turn: 1 })));
    let usage = effects
        .iter()
        .find_map(|e| if let Effect::Finished { usage, .. } = e { Some(*usage) } else { None });
    assert_eq!(usage.map(|usage| (usage.computed, usage.generated)), Some((640, 3)));
    assert_eq!(worker.leftover(), None);
}

#[test]
fn a_snapshot_is_what_the_changes_add_up_to() {
    let (mut worker, times) = worker(30);
    let mut held = std::collections::BTreeSet::new();
    for turn in 1..6 {
        worker.push(leg(turn, Mode::Local, 640, 3));
        for effect in settle(&mut worker, &times) {
            let Effect::State { events, .. } = effect else { continue };
            for event in events {
                match event {
                    KvEvent::Stored(hash) => held.insert(hash),
                    KvEvent::Removed(hash) => held.remove(&hash),
                    KvEvent::Cleared => panic!("nobody clears"),
                };
            }
        }
    }
    worker.push(Message::Subscribe);
    let effects = settle(&mut worker, &times);
    let snapshot = effects.iter().find_map(|effect| match effect {
        Effect::State { events, snapshot: true, .. } => Some(events.clone()),
        _ => None,
    });
    let held: Vec<_> = held.into_iter().map(KvEvent::Stored).collect();
    assert_eq!(snapshot, Some(held));
}
