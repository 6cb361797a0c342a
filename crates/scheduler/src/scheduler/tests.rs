use super::*;
use crate::ReserveError;
use estafette_types::{HashSeed, Limits, block_hashes};
use proptest::prelude::*;

const BLOCK: u32 = 4;

fn config() -> SchedulerConfig {
    SchedulerConfig {
        block_size: BLOCK,
        num_blocks: 16,
        max_num_batched_tokens: 8,
        max_num_seqs: 4,
        max_waiting: 8,
        max_model_len: 48,
    }
}

fn seed() -> HashSeed {
    HashSeed::new(b"model", "", "")
}

fn new(id: u64, prompt: &[TokenId], max_tokens: u32, mode: Mode) -> NewSequence {
    resumed(id, prompt, &[], max_tokens, mode)
}

/// An answer that begins with `output`.
fn resumed(
    id: u64,
    prompt: &[TokenId],
    output: &[TokenId],
    max_tokens: u32,
    mode: Mode,
) -> NewSequence {
    NewSequence {
        id: SequenceId(id),
        prompt: prompt.to_vec(),
        output: output.to_vec(),
        hashes: block_hashes(seed(), &[prompt, output].concat(), BLOCK as usize),
        seed: seed(),
        limits: Limits { max_tokens, stop_token_ids: vec![0], ignore_eos: false },
        mode,
    }
}

/// The model: the next token is a function of all tokens before it. Token 0 is the stop token.
fn next_token(tokens: &[TokenId]) -> TokenId {
    let mixed = tokens.iter().fold(7u32, |sum, t| sum.wrapping_mul(31).wrapping_add(*t));
    (mixed >> 3) % 23
}

/// Runs one step with the fake model.
fn step(scheduler: &mut Scheduler) -> (StepPlan, Vec<StepEvent>) {
    let plan = scheduler.schedule();
    let sampled: Vec<_> = plan
        .sequences
        .iter()
        .filter(|s| s.samples)
        .map(|s| (s.id, next_token(scheduler.sequence(s.id).unwrap().tokens())))
        .collect();
    let events = scheduler.complete(&plan, &sampled);
    scheduler.check_integrity().unwrap();
    (plan, events)
}

/// Runs until nothing is to do; every event.
fn run(scheduler: &mut Scheduler) -> Vec<StepEvent> {
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let (plan, events) = step(scheduler);
        all.extend(events);
        if plan.sequences.is_empty() {
            return all;
        }
    }
    panic!("it never ends");
}

fn tokens_of(events: &[StepEvent], wanted: u64) -> Vec<(u32, TokenId)> {
    let of = |event: &StepEvent| match event {
        StepEvent::Token { id, index, token } if id.0 == wanted => Some((*index, *token)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn usage_of(events: &[StepEvent], wanted: u64) -> (FinishReason, Usage) {
    let of = |event: &StepEvent| match event {
        StepEvent::Finished { id, reason, usage } if id.0 == wanted => Some((*reason, *usage)),
        _ => None,
    };
    events.iter().find_map(of).expect("it finished")
}

/// What the model answers when nothing disturbs it.
fn answer(prompt: &[TokenId], max_tokens: u32) -> Vec<(u32, TokenId)> {
    let longest = (config().max_model_len as usize).min(64);
    let mut tokens = prompt.to_vec();
    let mut answer = Vec::new();
    while answer.len() < max_tokens as usize && tokens.len() < longest {
        let token = next_token(&tokens);
        tokens.push(token);
        answer.push((answer.len() as u32, token));
        if token == 0 {
            break;
        }
    }
    answer
}

#[test]
fn a_prompt_runs_in_chunks_and_then_token_by_token() {
    let mut scheduler = Scheduler::new(config());
    let prompt: Vec<_> = (1..=11).collect();
    scheduler.add(new(1, &prompt, 3, Mode::Local)).unwrap();
    let (plan, events) = step(&mut scheduler);
    assert_eq!((plan.num_tokens(), plan.sequences[0].samples, events.len()), (8, false, 0));
    let (plan, _) = step(&mut scheduler);
    assert_eq!((plan.sequences[0].start, plan.num_tokens()), (8, 3));
    assert!(plan.sequences[0].samples && plan.sequences[0].ends_prompt);
    let (plan, _) = step(&mut scheduler);
    assert_eq!((plan.sequences[0].start, plan.num_tokens()), (11, 1));
    assert!(!plan.sequences[0].ends_prompt);
}

#[test]
fn decode_rows_come_before_prompt_chunks() {
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &[1, 2], 9, Mode::Local)).unwrap();
    step(&mut scheduler);
    scheduler.add(new(2, &[5; 20], 9, Mode::Local)).unwrap();
    let (plan, _) = step(&mut scheduler);
    let rows: Vec<_> = plan.sequences.iter().map(|s| (s.id.0, s.tokens.len())).collect();
    assert_eq!(rows, [(1, 1), (2, 7)]);
}

#[test]
fn a_fully_cached_prompt_still_computes_one_token() {
    let mut scheduler = Scheduler::new(config());
    let prompt = [1, 2, 3, 4, 5, 6, 7, 8];
    scheduler.add(new(1, &prompt, 1, Mode::Local)).unwrap();
    run(&mut scheduler);
    scheduler.add(new(2, &prompt, 1, Mode::Local)).unwrap();
    let events = run(&mut scheduler);
    let (_, usage) = usage_of(&events, 2);
    assert_eq!((usage.prompt, usage.cached, usage.computed), (8, 4, 4));
    assert_eq!(tokens_of(&events, 2), answer(&prompt, 1));
}

#[test]
fn a_stop_token_ends_the_answer_and_is_counted() {
    let mut scheduler = Scheduler::new(config());
    // Found by trying: this prompt's answer ends with the stop token.
    let prompt = (1..200u32)
        .map(|n| vec![n, n + 1])
        .find(|p| answer(p, 30).last().is_some_and(|(i, t)| *t == 0 && *i > 0));
    let prompt = prompt.unwrap();
    scheduler.add(new(1, &prompt, 30, Mode::Local)).unwrap();
    let events = run(&mut scheduler);
    let (reason, usage) = usage_of(&events, 1);
    assert_eq!(reason, FinishReason::Stop);
    assert_eq!(usage.generated as usize, answer(&prompt, 30).len());
    let mut ignoring = new(2, &prompt, 30, Mode::Local);
    ignoring.limits.ignore_eos = true;
    scheduler.add(ignoring).unwrap();
    let (reason, usage) = usage_of(&run(&mut scheduler), 2);
    assert_eq!((reason, usage.generated), (FinishReason::Length, 30));
}

#[test]
fn what_cannot_run_is_refused() {
    let mut scheduler = Scheduler::new(config());
    assert_eq!(scheduler.add(new(1, &[], 1, Mode::Local)), Err(AddError::EmptyPrompt));
    let long = scheduler.add(new(1, &[1; 48], 1, Mode::Local)).unwrap_err();
    assert_eq!(long, AddError::TooLong { given: 48, max_model_len: 48 });
    let mut tiny = Scheduler::new(SchedulerConfig { num_blocks: 2, ..config() });
    let error = tiny.add(new(1, &[1; 8], 1, Mode::Local)).unwrap_err();
    assert_eq!(error, AddError::NeverFits { tokens: 9, pool_tokens: 8 });
    for id in 0..8 {
        scheduler.add(new(id, &[1], 1, Mode::Local)).unwrap();
    }
    let full = scheduler.add(new(9, &[1], 1, Mode::Local)).unwrap_err();
    assert_eq!(full, AddError::QueueFull { max_waiting: 8 });
}

#[test]
fn a_preempted_sequence_comes_back_first_with_the_same_tokens() {
    let small = SchedulerConfig { num_blocks: 7, ..config() };
    let mut scheduler = Scheduler::new(small);
    let prompts = [[1u32, 2, 3, 4, 5], [9, 8, 7, 6, 5], [2, 4, 6, 8, 1]];
    for (i, prompt) in prompts.iter().enumerate() {
        let mut new = new(i as u64, prompt, 15, Mode::Local);
        new.limits.ignore_eos = true;
        scheduler.add(new).unwrap();
    }
    let events = run(&mut scheduler);
    let mut recomputed = 0;
    for (i, prompt) in prompts.iter().enumerate() {
        let tokens: Vec<_> = tokens_of(&events, i as u64).into_iter().map(|(_, t)| t).collect();
        let mut history = prompt.to_vec();
        for token in &tokens {
            assert_eq!(*token, next_token(&history));
            history.push(*token);
        }
        assert_eq!(tokens.len(), 15);
        let (_, usage) = usage_of(&events, i as u64);
        assert!(usage.is_balanced());
        assert_eq!(usage.prompt, 5);
        recomputed += usage.recomputed;
    }
    assert!(recomputed > 0, "nothing was preempted, the test is too easy");
}

#[test]
fn a_sequence_that_outgrows_the_pool_ends_by_length() {
    let mut scheduler = Scheduler::new(SchedulerConfig { num_blocks: 3, ..config() });
    let mut new = new(1, &[1, 2, 3], 40, Mode::Local);
    new.limits.ignore_eos = true;
    scheduler.add(new).unwrap();
    let (reason, usage) = usage_of(&run(&mut scheduler), 1);
    assert_eq!((reason, usage.generated), (FinishReason::Length, 9));
}

#[test]
fn a_prefilled_prompt_is_held_until_the_hand_off_lets_go() {
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &[1, 2, 3, 4, 5], 9, Mode::PrefillOnly)).unwrap();
    let events = run(&mut scheduler);
    assert_eq!(tokens_of(&events, 1), answer(&[1, 2, 3, 4, 5], 1));
    assert_eq!(usage_of(&events, 1).1.generated, 1);
    assert_eq!(scheduler.load().free_blocks, 14);
    assert!(!scheduler.is_idle());
    scheduler.release_held(SequenceId(1));
    assert_eq!(scheduler.load().free_blocks, 16);
    assert!(scheduler.is_idle());
}

#[test]
fn an_adopted_sequence_goes_on_from_the_first_token() {
    let mut scheduler = Scheduler::new(config());
    let prompt = [1, 2, 3, 4, 5, 6];
    scheduler.add(new(1, &prompt, 5, Mode::Remote)).unwrap();
    assert!(scheduler.schedule().sequences.is_empty(), "nothing runs before the KV is there");
    let reservation = scheduler.reserve(SequenceId(1)).unwrap();
    assert_eq!((reservation.table.len(), reservation.cached_blocks), (2, 0));
    assert_eq!(scheduler.reserve(SequenceId(1)).unwrap(), reservation);
    let expected = answer(&prompt, 5);
    assert!(scheduler.adopt(SequenceId(1), expected[0].1).is_empty());
    assert_eq!(scheduler.cached_hashes().len(), 1);
    let events = run(&mut scheduler);
    assert_eq!(tokens_of(&events, 1), expected[1..]);
    let (_, usage) = usage_of(&events, 1);
    assert_eq!((usage.prompt, usage.generated as usize), (0, expected.len() - 1));
}

#[test]
fn adopting_the_last_token_ends_at_once() {
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &[1, 2], 1, Mode::Remote)).unwrap();
    scheduler.reserve(SequenceId(1)).unwrap();
    let events = scheduler.adopt(SequenceId(1), 5);
    assert_eq!(usage_of(&events, 1).0, FinishReason::Length);
    assert!(tokens_of(&events, 1).is_empty() && scheduler.is_idle());
}

#[test]
fn reserving_is_all_or_nothing_and_shares_the_cache() {
    let mut scheduler = Scheduler::new(config());
    let long: Vec<_> = (1..=40).collect();
    scheduler.add(new(1, &long, 1, Mode::Local)).unwrap();
    run(&mut scheduler);
    scheduler.add(new(2, &long, 9, Mode::Remote)).unwrap();
    let reservation = scheduler.reserve(SequenceId(2)).unwrap();
    assert_eq!((reservation.table.len(), reservation.cached_blocks), (10, 10));
    scheduler.add(new(3, &[7; 40], 9, Mode::Remote)).unwrap();
    let refused = scheduler.reserve(SequenceId(3)).unwrap_err();
    assert_eq!(refused, ReserveError::OutOfBlocks { needed: 10, free: 6 });
    assert_eq!(scheduler.reserve(SequenceId(9)).unwrap_err(), ReserveError::Unknown);
}

#[test]
fn a_failed_hand_off_is_computed_here_from_index_0() {
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &[1, 2, 3, 4, 5], 4, Mode::Remote)).unwrap();
    scheduler.reserve(SequenceId(1)).unwrap();
    scheduler.fall_back(SequenceId(1));
    let events = run(&mut scheduler);
    assert_eq!(tokens_of(&events, 1), answer(&[1, 2, 3, 4, 5], 4));
    let (_, usage) = usage_of(&events, 1);
    assert_eq!((usage.prompt, usage.computed), (5, 5));
    assert!(scheduler.adopt(SequenceId(1), 3).is_empty(), "too late");
}

/// Blocks of four tokens: two of three are full and verified.
#[test]
fn verified_blocks_of_a_failed_hand_off_are_not_computed_again() {
    let prompt: Vec<_> = (1..=10).collect();
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &prompt, 4, Mode::Remote)).unwrap();
    scheduler.reserve(SequenceId(1)).unwrap();
    scheduler.keep_verified(SequenceId(1), 3);
    scheduler.fall_back(SequenceId(1));
    let stored = scheduler.take_events();
    assert_eq!(stored.len(), 2, "routers are told: {stored:?}");
    let events = run(&mut scheduler);
    assert_eq!(tokens_of(&events, 1), answer(&prompt, 4));
    let (_, usage) = usage_of(&events, 1);
    assert_eq!((usage.prompt, usage.cached, usage.computed), (10, 8, 2));
    scheduler.check_integrity().unwrap();
}

#[test]
fn blocks_that_may_still_be_written_are_shared_only_when_they_are_let_go() {
    let prompt: Vec<_> = (1..=10).collect();
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &prompt, 4, Mode::Remote)).unwrap();
    scheduler.reserve(SequenceId(1)).unwrap();
    scheduler.hold(SequenceId(1), 1);
    scheduler.fall_back(SequenceId(1));
    assert!(scheduler.cached_hashes().is_empty());
    scheduler.release_held(SequenceId(1));
    assert_eq!(scheduler.cached_hashes().len(), 1);
    let (_, usage) = usage_of(&run(&mut scheduler), 1);
    assert_eq!((usage.prompt, usage.cached, usage.computed), (10, 4, 6));
    scheduler.check_integrity().unwrap();
}

#[test]
fn nothing_is_kept_of_blocks_that_were_never_reserved() {
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &[1, 2, 3, 4, 5], 4, Mode::Remote)).unwrap();
    scheduler.keep_verified(SequenceId(1), 1);
    scheduler.keep_verified(SequenceId(2), 1);
    scheduler.fall_back(SequenceId(1));
    scheduler.keep_verified(SequenceId(1), 1);
    assert!(scheduler.cached_hashes().is_empty());
    let (_, usage) = usage_of(&run(&mut scheduler), 1);
    assert_eq!((usage.prompt, usage.computed), (5, 5));
}

/// The first `count` tokens of an answer.
fn beginning(prompt: &[TokenId], max_tokens: u32, count: usize) -> Vec<TokenId> {
    answer(prompt, max_tokens).into_iter().take(count).map(|(_, token)| token).collect()
}

#[test]
fn an_answer_that_began_elsewhere_goes_on_and_is_counted_as_done_twice() {
    let (prompt, max_tokens) = ([1, 2, 3, 4, 5, 6], 9);
    let expected = answer(&prompt, max_tokens);
    for given in 1..expected.len() {
        let output = beginning(&prompt, max_tokens, given);
        let mut scheduler = Scheduler::new(config());
        scheduler.add(resumed(1, &prompt, &output, max_tokens, Mode::Local)).unwrap();
        let events = run(&mut scheduler);
        assert_eq!(tokens_of(&events, 1), expected[given..]);
        let rest = (expected.len() - given) as u64;
        let usage = Usage {
            prompt: 6,
            computed: 6,
            recomputed: given as u64 - 1,
            generated: rest,
            ..Usage::default()
        };
        assert_eq!(usage_of(&events, 1).1, usage);
        let passes = (6 + given as u64).div_ceil(8);
        // The last step is the one that finds nothing to do.
        let steps = passes - 1 + rest + 1;
        assert_eq!(scheduler.load().steps, steps, "one pass over what was given");
        // What it left in the cache is found by the next one, beyond the prompt.
        scheduler.add(resumed(2, &prompt, &output, max_tokens, Mode::Local)).unwrap();
        let found = (6 + given - 1) / 4 * 4;
        let usage = usage_of(&run(&mut scheduler), 2).1;
        assert_eq!(usage.cached, found.min(6) as u64);
        assert_eq!(usage.recomputed, (6 + given - 1 - found.max(6)) as u64);
    }
}

#[test]
fn an_answer_that_began_elsewhere_is_handed_off_with_its_beginning() {
    let (prompt, max_tokens) = ([1, 2, 3, 4, 5, 6], 9);
    let expected = answer(&prompt, max_tokens);
    let output = beginning(&prompt, max_tokens, 4);
    let mut prefill = Scheduler::new(config());
    prefill.add(resumed(1, &prompt, &output, max_tokens, Mode::PrefillOnly)).unwrap();
    let (plan, _) = step(&mut prefill);
    assert!(!plan.sequences[0].ends_prompt, "the chunk ends in the output");
    let (plan, events) = step(&mut prefill);
    assert!(plan.sequences[0].ends_prompt);
    assert_eq!(tokens_of(&events, 1), expected[4..5]);
    let mut decode = Scheduler::new(config());
    decode.add(resumed(1, &prompt, &output, max_tokens, Mode::Remote)).unwrap();
    assert_eq!(decode.reserve(SequenceId(1)).unwrap().table.len(), 3);
    let mut events = decode.adopt(SequenceId(1), expected[4].1);
    events.extend(run(&mut decode));
    assert_eq!(tokens_of(&events, 1), expected[5..]);
    let usage = usage_of(&events, 1).1;
    assert_eq!((usage.prompt, usage.generated as usize), (0, expected.len() - 5));
}

#[test]
fn an_answer_that_is_complete_already_or_too_long_is_refused() {
    let mut scheduler = Scheduler::new(config());
    let complete = scheduler.add(resumed(1, &[1, 2], &[3, 4], 2, Mode::Local)).unwrap_err();
    assert_eq!(complete, AddError::Complete { output: 2, max_tokens: 2 });
    let long = scheduler.add(resumed(1, &[1; 30], &[3; 18], 40, Mode::Local)).unwrap_err();
    assert_eq!(long, AddError::TooLong { given: 48, max_model_len: 48 });
    assert!(scheduler.is_idle());
}

#[test]
fn a_hand_off_takes_a_place_in_the_batch_when_it_gets_its_blocks() {
    let mut scheduler = Scheduler::new(SchedulerConfig { max_num_seqs: 2, ..config() });
    for id in 1..=3 {
        scheduler.add(new(id, &[id as u32, 2], 5, Mode::Remote)).unwrap();
    }
    scheduler.add(new(4, &[4, 2], 5, Mode::Local)).unwrap();
    scheduler.reserve(SequenceId(1)).unwrap();
    let second = scheduler.reserve(SequenceId(2)).unwrap();
    let full = ReserveError::BatchFull { max_num_seqs: 2 };
    assert_eq!(scheduler.reserve(SequenceId(3)).unwrap_err(), full);
    assert_eq!(scheduler.reserve(SequenceId(2)).unwrap(), second, "it has its place already");
    assert!(scheduler.schedule().sequences.is_empty(), "nor is there one for a local sequence");
    scheduler.adopt(SequenceId(1), 5);
    assert_eq!(scheduler.reserve(SequenceId(3)).unwrap_err(), full);
    scheduler.cancel(SequenceId(1));
    scheduler.reserve(SequenceId(3)).unwrap();
    scheduler.fall_back(SequenceId(2));
    let (plan, _) = step(&mut scheduler);
    let ids: Vec<_> = plan.sequences.iter().map(|s| s.id.0).collect();
    assert_eq!(ids, [2], "a hand-off that failed leaves its place to the oldest");
}

#[test]
fn what_comes_back_into_the_queue_runs_in_the_order_of_age() {
    let mut scheduler = Scheduler::new(SchedulerConfig { max_num_seqs: 1, ..config() });
    scheduler.add(new(1, &[1, 2], 2, Mode::Local)).unwrap();
    (2..=4).for_each(|id| scheduler.add(new(id, &[1, 2], 2, Mode::Remote)).unwrap());
    scheduler.add(new(5, &[1, 2], 2, Mode::Local)).unwrap();
    for id in [3, 2, 4] {
        scheduler.fall_back(SequenceId(id));
    }
    assert_eq!(scheduler.next_waiting(), Some(SequenceId(1)));
    let order: Vec<_> = run(&mut scheduler)
        .iter()
        .filter_map(|event| match event {
            StepEvent::Finished { id, .. } => Some(id.0),
            StepEvent::Token { .. } => None,
        })
        .collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
}

#[test]
fn whoever_came_last_is_preempted_first_even_if_it_runs_for_longer() {
    let mut scheduler = Scheduler::new(SchedulerConfig { num_blocks: 4, ..config() });
    scheduler.add(new(1, &[1, 2, 3, 4, 5], 9, Mode::Remote)).unwrap();
    scheduler.add(new(2, &[6, 5, 4, 3, 2], 9, Mode::Local)).unwrap();
    step(&mut scheduler);
    scheduler.reserve(SequenceId(1)).unwrap();
    scheduler.adopt(SequenceId(1), 5);
    while scheduler.next_waiting().is_none() {
        step(&mut scheduler);
    }
    assert_eq!(scheduler.next_waiting(), Some(SequenceId(2)));
}

#[test]
fn cancelling_frees_the_blocks_at_once_unless_they_are_held() {
    let mut scheduler = Scheduler::new(config());
    scheduler.add(new(1, &[1; 20], 9, Mode::Local)).unwrap();
    step(&mut scheduler);
    let usage = scheduler.cancel(SequenceId(1)).unwrap();
    assert_eq!((usage.prompt, usage.computed, usage.generated), (8, 8, 0));
    assert_eq!(scheduler.load().free_blocks, 16);
    assert_eq!(scheduler.load().done, usage);
    assert_eq!(scheduler.cancel(SequenceId(1)), None);
    scheduler.add(new(2, &[1; 20], 9, Mode::Remote)).unwrap();
    scheduler.reserve(SequenceId(2)).unwrap();
    scheduler.hold(SequenceId(2), 0);
    scheduler.cancel(SequenceId(2)).unwrap();
    assert_eq!(scheduler.load().free_blocks, 11);
    scheduler.release_held(SequenceId(2));
    assert_eq!(scheduler.load().free_blocks, 16);
}

/// Each row of a prompt counts what it attends to, whatever the chunks; rows of answers do not, nor does what was cached.
#[test]
fn the_load_record_knows_what_prompts_attended_to() {
    let to = |end: u64| end * (end + 1) / 2;
    for chunk in [4, 5, 8] {
        let limits = SchedulerConfig { max_num_batched_tokens: chunk, ..config() };
        let mut scheduler = Scheduler::new(limits);
        scheduler.add(new(1, &[5; 11], 3, Mode::Local)).unwrap();
        run(&mut scheduler);
        assert_eq!(scheduler.load().prefill_attended, to(11), "chunks of {chunk}");
        scheduler.add(new(2, &[5; 15], 3, Mode::Local)).unwrap();
        run(&mut scheduler);
        assert_eq!(scheduler.load().prefill_attended, to(11) + to(15) - to(8), "two blocks cached");
    }
}

#[test]
fn the_load_record_counts_exactly() {
    let mut scheduler = Scheduler::new(SchedulerConfig { max_num_seqs: 2, ..config() });
    let mut first = new(1, &[1, 2], 9, Mode::Local);
    first.limits.ignore_eos = true;
    scheduler.add(first).unwrap();
    step(&mut scheduler);
    scheduler.add(new(2, &[5; 20], 9, Mode::Local)).unwrap();
    scheduler.add(new(3, &[6; 9], 9, Mode::Local)).unwrap();
    step(&mut scheduler);
    let load = scheduler.load();
    assert_eq!((load.waiting_sequences, load.waiting_prefill_tokens), (1, 9));
    assert_eq!((load.prefilling_sequences, load.running_prefill_tokens), (1, 13));
    assert_eq!((load.decoding_sequences, load.decoding_tokens), (1, 3));
    assert_eq!((load.done.computed, load.done.generated, load.steps), (9, 2, 2));
}

/// Tokens that wait to be computed, looked up from scratch.
fn uncached(scheduler: &Scheduler) -> u64 {
    let of = |id| {
        let sequence = &scheduler.sequences[id];
        let shareable = sequence.max_shared_blocks(4).min(sequence.hashes.len());
        sequence.tokens.len() - 4 * scheduler.blocks.match_prefix(&sequence.hashes[..shareable])
    };
    scheduler.waiting.iter().map(of).sum::<usize>() as u64
}

#[derive(Clone, Debug)]
enum Op {
    Add { prompt: u8, len: usize, max_tokens: u32, mode: u8, given: usize },
    Step,
    Cancel { which: usize },
    Reserve { which: usize },
    Arrive { which: usize },
    Fail { which: usize, verified: usize, written: bool },
    Release { which: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0..4u8, 1..30usize, 1..12u32, 0..4u8, 0..6usize).prop_map(
            |(prompt, len, max_tokens, mode, given)| Op::Add { prompt, len, max_tokens, mode, given }
        ),
        8 => Just(Op::Step),
        1 => (0..20usize).prop_map(|which| Op::Cancel { which }),
        4 => (0..20usize).prop_map(|which| Op::Reserve { which }),
        2 => (0..20usize).prop_map(|which| Op::Arrive { which }),
        1 => (0..20usize, 0..8usize, any::<bool>())
            .prop_map(|(which, verified, written)| Op::Fail { which, verified, written }),
        2 => (0..20usize).prop_map(|which| Op::Release { which }),
    ];
    prop::collection::vec(op, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Random requests, hand-offs, failures and cancellations on a pool that is too small for comfort.
    #[test]
    fn every_answer_is_the_undisturbed_one_and_nothing_leaks(ops in ops(), places in 1..5usize) {
        let limits = SchedulerConfig { max_num_seqs: places as u32, ..config() };
        let mut scheduler = Scheduler::new(limits);
        let mut prompts: Vec<(Vec<TokenId>, Vec<TokenId>, u32, Mode)> = Vec::new();
        let mut events = Vec::new();
        let mut cancelled = Vec::new();
        let id = |which: usize| SequenceId(which as u64);
        for op in ops {
            match op {
                Op::Add { prompt, len, max_tokens, mode, given } => {
                    let mode = [Mode::Local, Mode::PrefillOnly, Mode::Remote, Mode::Remote][mode as usize];
                    let prompt: Vec<_> = (0..len as u32).map(|i| u32::from(prompt) + i * 3 + 1).collect();
                    // Never the last token: what is complete is refused.
                    let whole = answer(&prompt, max_tokens).len();
                    let output = beginning(&prompt, max_tokens, given.min(whole.saturating_sub(1)));
                    let number = prompts.len() as u64;
                    if scheduler.add(resumed(number, &prompt, &output, max_tokens, mode)).is_ok() {
                        prompts.push((prompt, output, max_tokens, mode));
                    }
                }
                Op::Step => {
                    let (plan, new_events) = step(&mut scheduler);
                    prop_assert!(plan.num_tokens() <= 8);
                    prop_assert!(plan.sequences.len() <= places);
                    events.extend(new_events);
                }
                Op::Cancel { which } => if let Some(usage) = scheduler.cancel(id(which)) {
                    prop_assert!(usage.is_balanced());
                    cancelled.push(which);
                },
                Op::Reserve { which } => drop(scheduler.reserve(id(which))),
                Op::Arrive { which } => if scheduler.reserve(id(which)).is_ok() {
                    let (prompt, output, ..) = &prompts[which];
                    let first = next_token(&[&prompt[..], output].concat());
                    let index = output.len() as u32;
                    events.push(StepEvent::Token { id: id(which), index, token: first });
                    events.extend(scheduler.adopt(id(which), first));
                },
                Op::Fail { which, verified, written } => {
                    let waits = |s: &Sequence| s.status == Status::AwaitingKv;
                    if scheduler.sequence(id(which)).is_some_and(waits) {
                        if written {
                            scheduler.hold(id(which), verified);
                        } else {
                            scheduler.keep_verified(id(which), verified);
                        }
                    }
                    scheduler.fall_back(id(which));
                }
                Op::Release { which } => scheduler.release_held(id(which)),
            }
            scheduler.check_integrity().unwrap();
            prop_assert_eq!(scheduler.load().waiting_prefill_tokens, uncached(&scheduler));
            prop_assert!(scheduler.running.len() <= places);
            prop_assert!(scheduler.running.is_sorted());
        }
        for which in 0..prompts.len() {
            scheduler.fall_back(id(which));
            scheduler.release_held(id(which));
        }
        for _ in 0..prompts.len() + 1 {
            events.extend(run(&mut scheduler));
            (0..prompts.len()).for_each(|which| scheduler.release_held(id(which)));
        }
        prop_assert!(scheduler.is_idle());
        prop_assert_eq!(scheduler.load().free_blocks, 16);
        for (which, (prompt, output, max_tokens, mode)) in prompts.iter().enumerate() {
            let tokens = tokens_of(&events, which as u64);
            let mut expected = answer(prompt, *max_tokens).split_off(output.len());
            if *mode == Mode::PrefillOnly {
                expected.truncate(1);
            }
            if cancelled.contains(&which) {
                prop_assert_eq!(&tokens[..], &expected[..tokens.len()]);
            } else {
                prop_assert_eq!(tokens, expected);
                prop_assert!(usage_of(&events, which as u64).1.is_balanced());
            }
        }
    }
}
