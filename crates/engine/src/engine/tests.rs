//! Same request, same tokens: the same bits alone or in a batch, in one chunk or many, cached or not, preempted or not, on
//! any number of threads, on any tier.

use super::*;
use crate::testing::{
    Answer, CAPITAL, Request, Rig, STORY, cpu, real_model, tiers, tiny_model, tokens,
};
use estafette_gguf::GgufFile;
use estafette_kernels::Tier;
use estafette_types::TokenId;

/// Sixteen prompts of different lengths, some with a common prefix, half of them greedy.
fn sixteen(text: &[TokenId], max_tokens: u32) -> Vec<Request> {
    (0..16)
        .map(|i| {
            let start = if i % 4 == 0 { 0 } else { i * 7 };
            let len = if i == 7 { 150 } else { 3 + i * 13 % 41 };
            let prompt = &text[start..start + len];
            if i % 2 == 0 {
                Request::greedy(prompt, max_tokens)
            } else {
                Request::drawn(prompt, max_tokens, i as u64)
            }
        })
        .collect()
}

/// Sums of the answers' counts.
fn recomputed(answers: &[Answer]) -> u64 {
    answers.iter().map(|answer| answer.usage.recomputed).sum()
}

fn cached(answers: &[Answer]) -> u64 {
    answers.iter().map(|answer| answer.usage.cached).sum()
}

/// Everything that one loaded engine can do differently, against each request alone in one chunk.
fn expect_same_in_every_schedule(rig: &mut Rig, requests: &[Request], scarce: u32) -> Vec<Answer> {
    let alone = rig.run_alone(requests, 512);
    for chunk in [512, 64, 16] {
        rig.reset(chunk, rig.num_blocks);
        let first = rig.run(requests);
        assert_eq!(tokens(&first), tokens(&alone), "a batch, chunks of {chunk}");
        let again = rig.run(requests);
        assert!(cached(&again) > cached(&first), "the second time prompts are in the cache");
        assert_eq!(tokens(&again), tokens(&alone), "from the cache, chunks of {chunk}");
    }
    rig.reset(512, scarce);
    let preempted = rig.run(requests);
    assert!(recomputed(&preempted) > 0, "blocks were scarce, yet nobody was preempted");
    assert_eq!(tokens(&preempted), tokens(&alone), "after preemption");
    alone
}

/// Each request from different points of its answer on, all at once, in chunks or with scarce blocks: the rest, with the
/// prompt counted once and what was computed elsewhere counted as done twice.
fn expect_same_rest(rig: &mut Rig, requests: &[Request], expected: &[Answer], scarce: u32) {
    for cut in [1, 2, 7] {
        for (chunk, blocks) in [(512, rig.num_blocks), (16, rig.num_blocks), (512, scarce)] {
            rig.reset(chunk, blocks);
            let resumed: Vec<_> = requests
                .iter()
                .zip(expected)
                .map(|(request, answer)| {
                    let output = answer.tokens[..cut].iter().map(|(token, _)| *token).collect();
                    Request { output, ..request.clone() }
                })
                .collect();
            let rest = rig.run(&resumed);
            for ((rest, whole), request) in rest.iter().zip(expected).zip(requests) {
                assert_eq!(rest.tokens, whole.tokens[cut..], "after {cut} tokens");
                assert_eq!(rest.usage.prompt, request.prompt.len() as u64);
                assert_eq!(rest.usage.generated, rest.tokens.len() as u64, "only the rest");
                if blocks == rig.num_blocks {
                    // The last token's row was nobody's before.
                    assert_eq!(rest.usage.recomputed, cut as u64 - 1);
                }
            }
        }
    }
}

/// Other threads and tiers than the ones that gave `expected`.
fn expect_same_on(
    model: &GgufFile,
    tier: Tier,
    threads: usize,
    requests: &[Request],
    expected: &[Answer],
) {
    let mut rig = Rig::new(model, cpu(tier, threads), 200, 512);
    let found = rig.run(requests);
    assert_eq!(tokens(&found), tokens(expected), "{tier:?} on {threads} threads");
}

#[test]
fn the_tiny_model_gives_the_same_bits_in_every_schedule_and_on_every_tier() {
    let model = tiny_model();
    let text: Vec<TokenId> = (0..300u32).map(|i| (i * i + 7 * i) % 258).collect();
    let requests = sixteen(&text, 40);
    let mut rig = Rig::new(&model, cpu(Tier::detect(), 2), 200, 512);
    let expected = expect_same_in_every_schedule(&mut rig, &requests, 20);
    expect_same_rest(&mut rig, &requests, &expected, 20);
    for tier in tiers() {
        for threads in [1, 2, 3] {
            expect_same_on(&model, tier, threads, &requests, &expected);
        }
    }
}

#[test]
fn the_reference_backend_does_too() {
    let text: Vec<TokenId> = (0..300u32).map(|i| (i * i + 7 * i) % 258).collect();
    let mut rig = Rig::new(&tiny_model(), crate::BackendOptions::Reference, 200, 512);
    expect_same_in_every_schedule(&mut rig, &sixteen(&text, 40), 20);
}

#[test]
fn the_real_model_gives_the_same_bits_in_every_schedule() {
    let mut rig = Rig::new(&real_model(), cpu(Tier::detect(), 2), 200, 512);
    let requests = sixteen(&STORY, 8);
    let expected = expect_same_in_every_schedule(&mut rig, &requests, 16);
    expect_same_rest(&mut rig, &requests, &expected, 16);
}

#[test]
fn the_real_model_gives_the_same_bits_on_every_tier_and_number_of_threads() {
    let model = real_model();
    let requests = [Request::greedy(&STORY[..20], 3), Request::drawn(&STORY[100..109], 3, 5)];
    let expected = Rig::new(&model, cpu(Tier::detect(), 1), 200, 512).run(&requests);
    for (tier, threads) in tiers().map(|tier| (tier, 2)).chain([(Tier::detect(), 3)]) {
        expect_same_on(&model, tier, threads, &requests, &expected);
    }
}

#[test]
fn the_real_model_knows_the_capital_of_france() {
    let mut request = Request::greedy(&CAPITAL, 20);
    request.stop_token_ids = vec![2];
    let mut rig = Rig::new(&real_model(), cpu(Tier::detect(), 2), 20, 512);
    let answer = rig.run(&[request]).remove(0);
    let ids: Vec<TokenId> = answer.tokens.iter().map(|(token, _)| *token).collect();
    // "The capital of France is Paris.", end of message.
    assert_eq!(ids, [504, 3575, 282, 4649, 314, 7042, 30, 2]);
    assert_eq!((answer.usage.prompt, answer.usage.generated), (37, 8));
}

#[test]
fn what_was_cancelled_leaves_nothing_behind() {
    let mut rig = Rig::new(&tiny_model(), cpu(Tier::detect(), 2), 40, 16);
    let prompt: Vec<TokenId> = (0..50).collect();
    let id = rig.submit(&Request::greedy(&prompt, 100));
    for _ in 0..6 {
        rig.engine.step(&mut NoObserver);
    }
    let usage = rig.engine.cancel(id).unwrap();
    assert_eq!((usage.prompt, usage.computed), (50, 50));
    assert!(rig.engine.step(&mut NoObserver).is_none());
    assert!(rig.engine.cancel(id).is_none());
    assert!(rig.engine.params.is_empty() && rig.engine.scheduler.is_idle());
}

#[test]
fn an_observer_sees_the_plan_and_then_every_layer() {
    #[derive(Default)]
    struct Watch(Vec<String>);
    impl StepObserver for Watch {
        fn planned(&mut self, plan: &StepPlan) {
            self.0.push(format!("{} rows", plan.num_tokens()));
        }
        fn layer_done(&mut self, plan: &StepPlan, layer: usize) {
            self.0.push(format!("layer {layer} of {}", plan.num_tokens()));
        }
    }
    let mut rig = Rig::new(&tiny_model(), cpu(Tier::detect(), 1), 40, 16);
    rig.submit(&Request::greedy(&[1, 2, 3], 2));
    let mut watch = Watch::default();
    while rig.engine.step(&mut watch).is_some() {}
    let expected =
        ["3 rows", "layer 0 of 3", "layer 1 of 3", "1 rows", "layer 0 of 1", "layer 1 of 1"];
    assert_eq!(watch.0, expected);
}
