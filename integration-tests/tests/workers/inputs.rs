//! What a worker is told: legs that make no sense, that take too long, that nobody wants any more.

use crate::fake_prefill::FakePrefill;
use estafette_integration_tests::leg::{
    Leg, TestRequest, code, new_transfer, start_aggregated, start_decode, start_prefill,
};
use estafette_integration_tests::model::{TINY_VOCAB, prompt, real};
use estafette_integration_tests::state::{StateView, idle_state};
use estafette_integration_tests::worker::{TestWorker, WorkerOptions};
use estafette_kv_transfer::TransportChoice;
use estafette_proto::v1::{self, run_start};
use estafette_types::{Role, Usage};
use std::time::Duration;

fn request() -> TestRequest {
    TestRequest::greedy(prompt(1, 40, TINY_VOCAB), 10)
}

/// The code with which a leg ends, at once or on its stream.
async fn refusal(worker: &TestWorker, start: v1::RunStart) -> String {
    let status = match Leg::start(worker, start).await {
        Err(status) => status,
        Ok(leg) => leg.finish().await.expect_err("it makes no sense"),
    };
    code(&status).to_owned()
}

#[tokio::test]
async fn legs_that_make_no_sense_change_nothing() {
    let decode = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    let digest = decode.info.pool.clone().expect("a pool").model_digest;
    let leg = run_start::Leg::Aggregated(v1::Aggregated {});
    let good = request().to_wire(&digest, leg.clone());
    let mut stranger = good.clone();
    stranger.prompt[3] = 258;
    let long = TestRequest::greedy(prompt(1, 256, TINY_VOCAB), 1);
    let hot = v1::Sampling { temperature: Some(9.0), ..v1::Sampling::default() };
    let prefill =
        v1::PrefillLeg { transfer_id: vec![0; 16].into(), decode: Some(v1::KvEndpoint::default()) };
    let short_id = v1::DecodeLeg { transfer_id: vec![0; 3].into() };
    let cases = [
        ("invalid_request", stranger),
        ("invalid_request", v1::RunStart { block_hashes: vec![0; 16].into(), ..good.clone() }),
        ("invalid_request", v1::RunStart { block_hashes: vec![0; 5].into(), ..good.clone() }),
        ("invalid_request", v1::RunStart { max_tokens: 0, ..good.clone() }),
        ("invalid_request", v1::RunStart { output: vec![258], ..good.clone() }),
        // Their hashes would be three.
        ("invalid_request", v1::RunStart { output: vec![1; 9], ..good.clone() }),
        // As long as it may be.
        ("invalid_request", v1::RunStart { output: vec![1; 4], max_tokens: 4, ..good.clone() }),
        (
            "context_length_exceeded",
            v1::RunStart {
                output: vec![1; 216],
                max_tokens: 217,
                block_hashes: vec![0; 16 * 16].into(),
                ..good.clone()
            },
        ),
        ("invalid_request", v1::RunStart { leg: None, ..good.clone() }),
        ("invalid_request", v1::RunStart { sampling: Some(hot), ..good.clone() }),
        (
            "invalid_request",
            v1::RunStart { leg: Some(run_start::Leg::Prefill(prefill)), ..good.clone() },
        ),
        (
            "invalid_request",
            v1::RunStart { leg: Some(run_start::Leg::Decode(short_id)), ..good.clone() },
        ),
        (
            "invalid_request",
            v1::RunStart { prompt: Vec::new(), block_hashes: Vec::new().into(), ..good.clone() },
        ),
        ("context_length_exceeded", long.to_wire(&digest, leg)),
        ("deadline_exceeded", v1::RunStart { timeout_ms: 0, ..good.clone() }),
    ];
    for (expected, start) in cases {
        let what = format!("{start:?}");
        assert_eq!(refusal(&decode, start).await, expected, "{what}");
    }
    assert_eq!(idle_state(&decode).await.load.done, Usage::default());
    Leg::start(&decode, good).await.expect("taken in").finish().await.expect("answered");
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let options = WorkerOptions { max_waiting: 2, ..WorkerOptions::default() };
    let decode = TestWorker::start(Role::Decode, &options).await;
    let request = request();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(start_decode(&decode, &request, new_transfer()).await.expect("taken in"));
    }
    let refused = start_aggregated(&decode, &request).await.expect("a stream").finish().await;
    assert_eq!(code(&refused.expect_err("full")), "overloaded");
    for leg in waiting {
        leg.cancel().await.expect("a last word");
    }
    idle_state(&decode).await;
    start_aggregated(&decode, &request).await.expect("taken in").finish().await.expect("answered");
}

/// Another hand-off holds the pool: neither a grant nor room to compute the prompt comes in time.
#[tokio::test]
async fn a_leg_ends_at_its_deadline_wherever_it_is() {
    let decode = TestWorker::start(Role::Decode, &WorkerOptions::default().blocks(4)).await;
    let prefill = TestWorker::start(Role::Prefill, &WorkerOptions::default()).await;
    let sender = FakePrefill::new(&decode, TransportChoice::Auto, None);
    let blocking = new_transfer();
    let blocked = start_decode(&decode, &request(), blocking).await.expect("taken in");
    let handle = sender.push(&decode, &request(), blocking);
    StateView::subscribe(&decode).await.until(|view| view.load.free_blocks == 1).await;

    let late = TestRequest::greedy(prompt(2, 40, TINY_VOCAB), 10).within(Duration::from_secs(1));
    let transfer = new_transfer();
    let second = start_decode(&decode, &late, transfer).await.expect("taken in");
    let first = start_prefill(&prefill, &late, transfer, decode.kv()).await.expect("taken in");
    first.finish().await.expect("the first token is there all the same");
    let overdue = second.finish().await.expect_err("no room");
    assert_eq!(code(&overdue), "deadline_exceeded");
    idle_state(&prefill).await;
    drop(handle);
    blocked.finish().await.expect("computed here");
    idle_state(&decode).await;
}

/// The real model, since two hundred of its tokens take seconds.
#[tokio::test]
async fn a_client_that_goes_away_frees_its_work() {
    let options = WorkerOptions { model: real(), kv_bytes: 32 << 20, ..WorkerOptions::default() };
    let decode = TestWorker::start(Role::Decode, &options).await;
    let request = TestRequest::greedy(prompt(1, 40, 40_000), 200);
    let mut leg = start_aggregated(&decode, &request).await.expect("taken in");
    leg.tokens(2).await.expect("two tokens");
    drop(leg);
    let state = idle_state(&decode).await;
    assert!(state.load.done.generated < 100, "{:?}", state.load.done);
}
