//! Workers that are there and do nothing: noticed within seconds, and used again when they wake.

use estafette_integration_tests::chat::sampled;
use estafette_integration_tests::eventually;
use estafette_integration_tests::hand::HandMade;
use serde_json::Value;
use std::time::{Duration, Instant};

const IMPATIENT: [&str; 2] = ["--worker-timeout", "2s"];
/// From a worker's last word to the client's next token, on a machine with other things to do.
const WITHIN: Duration = Duration::from_secs(20);

fn body(seed: u64) -> Value {
    sampled(&format!("Lap {seed}: who carries the baton?"), seed, 300)
}

/// A prompt that takes a worker with small steps a while.
fn long_prompt() -> Value {
    sampled(&"The runner leans into the bend. ".repeat(200), 1, 20)
}

/// A worker that was taken for lost is chosen again.
fn is_used_again(cluster: &HandMade, worker: &str) {
    let before = cluster.tokens(worker, "generated");
    let bodies: Vec<_> = (100..106).map(|seed| sampled("Once more.", seed, 30)).collect();
    let used = eventually(|| {
        cluster.answers(&bodies);
        cluster.tokens(worker, "generated") > before
    });
    assert!(used, "{worker} gets nothing to do");
    cluster.wait_until_idle();
}

#[test]
fn a_decode_worker_that_is_stopped_in_the_middle_of_an_answer_costs_a_pause() {
    let cluster = HandMade::start(&IMPATIENT, &[]);
    let _prefill = cluster.workers(["prefill-0"], 0);
    let [stopped] = cluster.workers(["decode-0"], 1);
    let expected = cluster.answer(&body(0)).tokens;
    let mut running = cluster.stream(&body(0));
    running.hear(40);
    stopped.freeze();
    let since = Instant::now();
    let _other = cluster.worker("decode-1");
    assert_eq!(running.whole().tokens, expected);
    assert!(since.elapsed() < WITHIN, "{:?}", since.elapsed());
    assert_eq!(cluster.metric("retries_total", &["worker_lost"]), 1);
    cluster.wait_for_workers(2);
    stopped.thaw();
    cluster.wait_for_workers(3);
    cluster.wait_until_idle();
    is_used_again(&cluster, "decode-0");
}

#[test]
fn a_prefill_worker_that_is_stopped_in_the_middle_of_a_prompt_costs_a_pause() {
    let cluster =
        HandMade::start(&IMPATIENT, &["--max-num-batched-tokens", "32", "--max-num-seqs", "16"]);
    let _decode = cluster.workers(["decode-0"], 0);
    let [stopped] = cluster.workers(["prefill-0"], 1);
    let running = std::thread::scope(|scope| {
        let running = scope.spawn(|| cluster.answer(&long_prompt()));
        let begun = || cluster.metric("worker_running_prefill_tokens", &["prefill-0"]) > 0;
        assert!(eventually(begun));
        stopped.freeze();
        running.join().unwrap()
    });
    assert_eq!(cluster.metric("retries_total", &["worker_lost"]), 1);
    cluster.wait_for_workers(1);
    stopped.thaw();
    cluster.wait_for_workers(2);
    cluster.wait_until_idle();
    assert_eq!(running.tokens, cluster.answer(&long_prompt()).tokens);
    is_used_again(&cluster, "prefill-0");
}

/// Its sockets answer, its engine does not.
#[test]
fn a_worker_whose_engine_hangs_is_replaced() {
    let cluster = HandMade::start(&IMPATIENT, &["--backend", "mock"]);
    let _hung = cluster.worker_with("decode-hung", &["--mock-step", "60min"]);
    cluster.wait_for_workers(1);
    let since = Instant::now();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| cluster.answer(&body(0)));
        assert!(eventually(|| cluster.metric("requests_running", &[]) == 1));
        let _other = cluster.worker("decode-0");
        assert_eq!(running.join().unwrap().tokens.len(), 300);
        assert!(since.elapsed() < 2 * WITHIN, "{:?}", since.elapsed());
    });
    assert_eq!(cluster.metric("retries_total", &["worker_lost"]), 1);
}

#[test]
fn a_long_step_is_no_hang() {
    let steps = ["--backend", "mock", "--mock-step", "3s"];
    let cluster = HandMade::start(&IMPATIENT, &steps);
    let _decode = cluster.workers(["decode-0"], 0);
    assert_eq!(cluster.answer(&sampled("Hi", 1, 3)).tokens.len(), 3);
    assert_eq!(cluster.metric("retries_total", &[]), 0);
}

/// A router that did not run hears first what was said meanwhile, and takes nobody for lost.
#[test]
fn a_router_that_is_stopped_goes_on_where_it_was() {
    let cluster = HandMade::start(&IMPATIENT, &[]);
    let _decode = cluster.workers(["decode-0"], 0);
    let expected = cluster.answer(&body(0)).tokens;
    let mut running = cluster.stream(&body(0));
    running.hear(40);
    cluster.router.freeze();
    std::thread::sleep(Duration::from_secs(4));
    cluster.router.thaw();
    assert_eq!(running.whole().tokens, expected);
    assert_eq!(cluster.metric("retries_total", &[]), 0);
}

#[test]
fn a_request_that_takes_too_long_ends_with_an_error_that_says_so() {
    let steps = ["--backend", "mock", "--mock-step", "50ms"];
    let cluster = HandMade::start(&["--request-timeout", "2s"], &steps);
    let _decode = cluster.workers(["decode-0"], 0);
    let long = sampled("Hi", 1, 1_000);
    let since = Instant::now();
    let mut running = cluster.stream(&long);
    running.hear(3);
    assert_eq!(running.error(), "deadline_exceeded");
    let mut at_once = long;
    at_once["stream"] = false.into();
    at_once.as_object_mut().unwrap().remove("stream_options");
    let reply = cluster.http.post("/v1/chat/completions", &at_once);
    assert_eq!((reply.status, &*reply.error().1), (504, "deadline_exceeded"));
    assert!(since.elapsed() < WITHIN, "{:?}", since.elapsed());
    cluster.wait_until_idle();
}

/// Four answers are interrupted, and the budget has room for one.
#[test]
fn when_the_budget_for_repairs_is_spent_clients_get_the_error() {
    let steps = ["--backend", "mock", "--mock-step", "20ms"];
    let cluster = HandMade::start(&["--retry-budget", "1"], &steps);
    let [mut victim] = cluster.workers(["decode-0"], 0);
    let mut running: Vec<_> = (0..4).map(|i| cluster.stream(&sampled("Hi", i, 500))).collect();
    running.iter_mut().for_each(|answer| answer.hear(3));
    let _other = cluster.workers(["decode-1"], 1);
    victim.kill();
    let ends: Vec<_> = running.into_iter().map(|answer| answer.end()).collect();
    let lost = ends.iter().filter(|end| *end == "worker_lost").count();
    let whole = ends.iter().filter(|end| *end == "[DONE]").count();
    assert_eq!((whole, lost), (1, 3), "{ends:?}");
}
