//! Workers that are told to leave while they work: nobody loses a token, and they end in order.

use estafette_integration_tests::chat::sampled;
use estafette_integration_tests::cluster::{Cluster, chat_body, run};
use estafette_integration_tests::eventually;
use estafette_integration_tests::hand::HandMade;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Some prompts take a few steps, all answers take longer than the grace.
fn load() -> Vec<Value> {
    let content = |i: u64| format!("Lap {i}. ") + &"The crowd counts. ".repeat(10 * i as usize);
    (0..10).map(|i| sampled(&content(i), i, 150)).collect()
}

#[test]
fn draining_one_worker_of_each_pool_under_load_costs_nobody_anything() {
    let cluster = HandMade::start(&[], &["--max-num-batched-tokens", "64"]);
    let mut workers = cluster.workers(["prefill-0", "decode-0"], 0);
    let mut left = cluster.workers(["prefill-1", "decode-1"], 2);
    let load = load();
    let (disturbed, outputs) = std::thread::scope(|scope| {
        let running = scope.spawn(|| cluster.answers(&load));
        assert!(eventually(|| cluster.tokens("decode-1", "generated") > 20));
        let outputs = ["prefill-1", "decode-1"].map(|id| cluster.drain(id, "200ms"));
        (running.join().unwrap(), outputs)
    });
    for output in outputs {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("-1 has left, "), "{output:?}");
    }
    assert_eq!(left.each_mut().map(|worker| worker.wait()), [Some(0), Some(0)]);
    assert!(cluster.metric("retries_total", &["worker_draining"]) > 0, "some have moved");
    assert_eq!(cluster.metric("retries_total", &["worker_lost"]), 0);
    cluster.wait_until_idle();
    for (disturbed, body) in disturbed.iter().zip(&load) {
        let undisturbed = cluster.answer(body);
        assert_eq!(disturbed.tokens, undisturbed.tokens);
        assert_eq!(disturbed.usage["completion_tokens"], 150);
        assert_eq!(disturbed.usage["prompt_tokens"], undisturbed.usage["prompt_tokens"]);
    }
    assert!(workers.iter_mut().all(|worker| worker.ended().is_none()));
}

/// What was done before the move and after it is on the bill once; both workers' counts are known.
#[test]
fn a_prompt_that_is_half_computed_moves_and_is_billed_once() {
    let small = ["--max-num-batched-tokens", "16", "--max-num-seqs", "8", "--drain-timeout", "0s"];
    let cluster = HandMade::start(&[], &small);
    let _decode = cluster.workers(["decode-0"], 0);
    let [mut leaving] = cluster.workers(["prefill-0"], 1);
    let body = sampled(&"The runner leans into the bend. ".repeat(200), 1, 5);
    let moved = std::thread::scope(|scope| {
        let running = scope.spawn(|| cluster.answer(&body));
        let half = || cluster.tokens("prefill-0", "computed") > 100;
        assert!(eventually(half));
        leaving.terminate();
        running.join().unwrap()
    });
    assert_eq!(moved.usage["completion_tokens"], 5);
    assert_eq!(leaving.wait(), Some(0));
    assert_eq!(cluster.metric("retries_total", &["worker_draining"]), 1);
    cluster.wait_until_idle();
    let counted = cluster.metric("tokens_total", &["\"computed\""]);
    let by_decode = cluster.tokens("decode-0", "computed");
    assert!(counted > by_decode + 100, "the count of the worker that left is there too");
    let undisturbed = cluster.answer(&body);
    assert_eq!(moved.usage["prompt_tokens"], undisturbed.usage["prompt_tokens"]);
    assert_eq!(moved.tokens, undisturbed.tokens);
}

#[test]
fn a_worker_with_nothing_to_do_leaves_at_once_and_one_with_an_unknown_name_is_answered_with_names()
{
    let cluster = HandMade::start(&[], &["--backend", "mock"]);
    let [mut idle, _other] = cluster.workers(["decode-0", "decode-1"], 0);
    let output = cluster.drain("decode-9", "1s");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("no worker is named `decode-9`: there are `decode-0`, `decode-1`"),
        "{text}"
    );
    let began = Instant::now();
    assert!(cluster.drain("decode-0", "10min").status.success());
    assert_eq!(idle.wait(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    cluster.wait_for_workers(1);
}

#[test]
fn up_goes_on_without_a_worker_that_was_drained_and_ends_with_the_last_one() {
    let cluster = Cluster::start(&["--prefill", "0", "--decode", "2", "--backend", "mock"]);
    let drain = |id: &str| {
        let output = run(&["drain", id, "--grace", "5s", "--router", &cluster.grpc_address]);
        assert!(output.status.success(), "{output:?}");
    };
    // It must have seen for itself that all are there.
    std::thread::sleep(Duration::from_secs(1));
    drain("decode-1");
    assert!(eventually(|| cluster.pids("decode-worker").len() == 1));
    let reply =
        cluster.http.post("/v1/chat/completions", &chat_body("Hi", &json!({ "max_tokens": 2 })));
    assert_eq!(reply.status, 200, "{}", reply.text);
    drain("decode-0");
    assert_eq!(cluster.wait(), Some(0));
}
