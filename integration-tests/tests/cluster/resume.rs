//! An answer whose worker dies goes on elsewhere from what the client has: the same tokens, and only the rest is generated.

use estafette_integration_tests::chat::sampled;
use estafette_integration_tests::eventually;
use estafette_integration_tests::hand::HandMade;
use serde_json::Value;

const ANSWER: u64 = 300;
/// Nobody is taken for lost: these workers are killed.
const PATIENT: [&str; 2] = ["--worker-timeout", "60s"];

fn body() -> Value {
    sampled("Tell me of a relay race from Marathon to Athens.", 7, ANSWER)
}

/// The first decode worker is killed when the client has `heard` events, and the answer goes on on the second.
fn interrupted(prefill: Option<&str>, heard: usize) {
    let cluster = HandMade::start(&PATIENT, &[]);
    let _prefill = prefill.map(|id| cluster.workers([id], 0));
    let there = u64::from(prefill.is_some());
    let [mut victim] = cluster.workers(["decode-victim"], there);
    let undisturbed = cluster.answer(&body());
    assert_eq!(undisturbed.tokens.len() as u64, ANSWER);

    let mut running = cluster.stream(&body());
    running.hear(heard);
    // It waits while the other one starts, so that there is something left to do.
    victim.freeze();
    let _heir = cluster.workers(["decode-heir"], there + 1);
    let before = prefill.map_or(0, |id| cluster.tokens(id, "generated"));
    victim.kill();
    let whole = running.whole();
    assert_eq!(whole.tokens, undisturbed.tokens, "as if nothing had happened");
    for field in ["prompt_tokens", "completion_tokens"] {
        assert_eq!(whole.usage[field], undisturbed.usage[field], "billed once");
    }
    assert_eq!(cluster.metric("retries_total", &["worker_lost"]), 1);
    cluster.wait_until_idle();

    let others: Vec<_> = prefill.into_iter().chain(["decode-heir"]).collect();
    let sum = |kind: &str| others.iter().map(|worker| cluster.tokens(worker, kind)).sum::<u64>();
    let rest = sum("generated") - before;
    let delivered = ANSWER - rest;
    // The first event says who speaks.
    assert!(rest > 0 && delivered >= heard as u64 - 1, "{delivered} of {heard} were delivered");
    let again = sum("recomputed");
    if prefill.is_none() {
        assert_eq!(again, delivered - 1, "one pass brought them back");
        assert_eq!(cluster.tokens("decode-heir", "computed"), undisturbed.usage["prompt_tokens"]);
    } else {
        assert!(again < delivered, "{again} of {delivered} tokens were computed again");
    }
}

#[test]
fn an_answer_goes_on_where_its_worker_died() {
    interrupted(None, 60);
}

#[test]
fn so_it_does_through_a_prefill_worker_and_a_hand_off() {
    interrupted(Some("prefill-0"), 60);
}

#[test]
fn an_answer_may_be_interrupted_twice() {
    let cluster = HandMade::start(&PATIENT, &[]);
    let [mut first] = cluster.workers(["decode-0"], 0);
    let expected = cluster.answer(&body()).tokens;
    let mut running = cluster.stream(&body());
    running.hear(40);
    first.freeze();
    let [mut second] = cluster.workers(["decode-1"], 1);
    first.kill();
    assert!(eventually(|| cluster.tokens("decode-1", "generated") > 20));
    second.freeze();
    let _third = cluster.workers(["decode-2"], 1);
    second.kill();
    assert_eq!(running.whole().tokens, expected);
    assert_eq!(cluster.metric("retries_total", &["worker_lost"]), 2);
    cluster.wait_until_idle();
}

/// The only worker dies; the answer waits for the one that a supervisor starts in its place.
#[test]
fn an_answer_waits_for_its_worker_to_be_replaced() {
    let cluster = HandMade::start(&[], &[]);
    let [mut worker] = cluster.workers(["decode-0"], 0);
    let expected = cluster.answer(&body()).tokens;
    let mut running = cluster.stream(&body());
    running.hear(40);
    worker.kill();
    let _replaced = cluster.workers(["decode-0"], 0);
    assert_eq!(running.whole().tokens, expected);
}
