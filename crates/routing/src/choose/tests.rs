use super::*;
use crate::lessons::{BLOCKS, decide, idle, pool, request};
use crate::sketch::{choose, explain};

#[test]
fn an_idle_cluster_uses_both_pools() {
    let decision = decide(&request(1_500), &pool(0..1), &pool(1..2)).unwrap();
    assert_eq!(decision.choice, Choice::Disaggregated { prefill: 0, decode: 1 });
    assert_eq!((decision.reason, decision.uncached_tokens), (Reason::PrefillPool, 1_500));
    assert!(decision.first_token_seconds > 0.1);
}

#[test]
fn without_a_prefill_worker_the_decode_worker_does_it_all() {
    let mut leaving = idle(0);
    leaving.draining = true;
    for prefill in [vec![], vec![leaving]] {
        let decision = decide(&request(100), &prefill, &pool(1..2)).unwrap();
        assert_eq!(decision.choice, Choice::Aggregated { decode: 1 });
        assert_eq!(decision.reason, Reason::NoPrefillWorker);
        assert_eq!(decision.alternative_seconds, None);
    }
}

#[test]
fn without_a_decode_worker_there_is_no_choice() {
    assert_eq!(decide(&request(100), &pool(0..3), &[]), Err(NoChoice::NoWorker));
    let mut leaving = idle(4);
    leaving.draining = true;
    assert_eq!(decide(&request(100), &pool(0..3), &[leaving]), Err(NoChoice::NoWorker));
    let mut full = idle(5);
    full.load.waiting_sequences = 64;
    assert_eq!(decide(&request(100), &pool(0..3), &[leaving, full]), Err(NoChoice::Saturated));
    let too_long = request(16 * BLOCKS as u32);
    assert_eq!(decide(&too_long, &[], &[idle(6)]), Err(NoChoice::NoWorker));
}

#[test]
fn what_is_on_its_way_fills_a_queue_too() {
    let mut worker = idle(0);
    worker.load.waiting_sequences = 60;
    worker.pending.sequences = 3;
    assert!(decide(&request(100), &[], &[worker]).is_ok());
    worker.pending.sequences = 4;
    assert_eq!(decide(&request(100), &[], &[worker]), Err(NoChoice::Saturated));
}

#[test]
fn a_decode_worker_that_holds_most_of_the_prompt_appends() {
    let mut holder = idle(1);
    holder.cached_blocks = 60;
    let decision = decide(&request(1_000), &pool(0..1), &[holder, idle(2)]).unwrap();
    assert_eq!(decision.choice, Choice::Aggregated { decode: 1 });
    assert_eq!((decision.reason, decision.uncached_tokens), (Reason::Cached, 40));
}

/// Deflection: the first answer to a burst, and without a delay.
#[test]
fn a_prompt_is_deflected_when_the_prefill_pool_is_behind() {
    let mut behind = idle(0);
    behind.load.waiting_prefill_tokens = 20_000;
    let decision = decide(&request(1_000), &[behind], &pool(1..2)).unwrap();
    assert_eq!(decision.choice, Choice::Aggregated { decode: 1 });
    assert_eq!(decision.reason, Reason::Deflected);
    assert!(decision.seconds < decision.alternative_seconds.unwrap());
}

/// The victims are charged: a decode worker with many streams is no place for a long prompt.
#[test]
fn a_prompt_is_not_deflected_onto_many_streams() {
    let mut behind = idle(0);
    behind.load.waiting_prefill_tokens = 5_000;
    let mut streaming = idle(1);
    streaming.load.decoding_sequences = 40;
    streaming.load.decoding_tokens = 40_000;
    let decision = decide(&request(8_000), &[behind], &[streaming]).unwrap();
    assert_eq!(decision.choice, Choice::Disaggregated { prefill: 0, decode: 1 });
}

#[test]
fn a_worker_without_seats_or_blocks_waits_for_them() {
    let mut seatless = idle(0);
    seatless.load.decoding_sequences = 64;
    let mut blockless = idle(1);
    blockless.load.free_blocks = 3;
    for worse in [seatless, blockless] {
        let explanation =
            explain(&request(1_000), &[], &[worse, idle(9)], &RoutingConfig::default());
        let seats: Vec<_> = explanation.decode.iter().map(|e| e.score.unwrap().seat).collect();
        assert!(seats[0] > 0.0 && seats[1] == 0.0, "{seats:?}");
    }
}

#[test]
fn the_faster_worker_gets_the_prompt() {
    let mut slow = idle(0);
    slow.step.per_prefill_token *= 4.0;
    let decision = decide(&request(2_000), &[slow, idle(1)], &pool(2..3)).unwrap();
    assert_eq!(decision.choice, Choice::Disaggregated { prefill: 1, decode: 2 });
}

#[test]
fn the_explanation_has_the_figures_of_the_decision() {
    let config = RoutingConfig::default();
    let (mut prefill, mut decode) = (pool(0..3), pool(3..6));
    prefill[1].cached_blocks = 20;
    prefill[2].draining = true;
    decode[0].load.decoding_sequences = 9;
    decode[2].pending.sequences = 64;
    let request = request(900);
    let decision = choose(&request, &prefill, &decode, &config, &mut SplitMix64::new(3)).unwrap();
    let explanation = explain(&request, &prefill, &decode, &config);
    assert_eq!(decision.choice, Choice::Disaggregated { prefill: 1, decode: 4 });
    let total = |explained: &crate::Explained| explained.score.unwrap().total();
    let pair = total(&explanation.prefill[1]) + total(&explanation.decode[1]);
    assert_eq!(decision.seconds, pair);
    assert_eq!(decision.alternative_seconds, Some(total(&explanation.aggregated[1])));
    assert_eq!(explanation.prefill[1].uncached_tokens, 580);
    assert_eq!(explanation.prefill[2].score, Err(Filtered::Draining));
    assert_eq!(explanation.decode[2].score, Err(Filtered::QueueFull));
}
