//! Workers that leave: what runs finishes, nothing new comes, nothing stays behind.

use crate::fake_prefill::FakePrefill;
use estafette_config::BackendKind;
use estafette_integration_tests::leg::{
    TestRequest, aggregated, code, disaggregated, new_transfer, start_aggregated, start_decode,
    start_prefill,
};
use estafette_integration_tests::membership::FakeRouter;
use estafette_integration_tests::model::{TINY_VOCAB, prompt};
use estafette_integration_tests::state::StateView;
use estafette_integration_tests::worker::{TestWorker, WorkerOptions, run_to_its_end};
use estafette_kv_transfer::TransportChoice;
use estafette_types::Role;
use estafette_worker::WorkerError;
use futures_util::future::join_all;
use std::path::Path;
use std::time::Duration;

fn requests(count: u64) -> Vec<TestRequest> {
    (0..count).map(|i| TestRequest::greedy(prompt(i, 150, TINY_VOCAB), 90)).collect()
}

#[tokio::test]
async fn both_workers_finish_what_they_have_taken_in() {
    let options = WorkerOptions::default().blocks(60);
    let mut prefill = TestWorker::start(Role::Prefill, &options).await;
    let mut decode = TestWorker::start(Role::Decode, &options).await;
    let socket = decode.kv().unix_socket;
    let folder = Path::new(&socket).parent().expect("a folder").to_owned();
    assert!(folder.is_dir());
    let mut state = StateView::subscribe(&decode).await;
    let requests = requests(12);
    let mut legs = Vec::new();
    for request in &requests {
        let transfer = new_transfer();
        let first = start_prefill(&prefill, request, transfer, decode.kv()).await;
        let second = start_decode(&decode, request, transfer).await;
        legs.push((first.expect("taken in"), second.expect("taken in")));
    }
    prefill.drain();
    decode.drain();
    let answers = legs.into_iter().map(|(first, second)| async {
        (first.finish().await.expect("prefilled"), second.finish().await.expect("decoded"))
    });
    for (first, second) in join_all(answers).await {
        assert_eq!(first.tokens.len() + second.tokens.len(), 90);
    }
    prefill.ended().await.expect("in order");
    decode.ended().await.expect("in order");
    state.until(|view| view.draining).await;
    while state.next().await {}
    assert!(!folder.exists(), "the socket's folder is gone");
}

/// A leg whose push does not come keeps the decode worker from leaving.
#[tokio::test]
async fn a_draining_worker_takes_nothing_new() {
    let mut decode = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    let request = &requests(1)[0];
    let mut state = StateView::subscribe(&decode).await;
    let waiting = start_decode(&decode, request, new_transfer()).await.expect("taken in");
    decode.drain();
    state.until(|view| view.draining).await;
    let refused = start_aggregated(&decode, request).await.expect("a stream").finish().await;
    assert_eq!(code(&refused.expect_err("it leaves")), "worker_draining");
    assert!(!decode.has_ended());
    waiting.cancel().await.expect("a last word");
    decode.ended().await.expect("in order");
}

/// The prompt is done, its blocks are still to be fetched.
#[tokio::test]
async fn a_prefill_worker_stays_until_its_blocks_have_left() {
    let mut prefill = TestWorker::start(Role::Prefill, &WorkerOptions::default()).await;
    let decode = TestWorker::start(Role::Decode, &WorkerOptions::default().blocks(18)).await;
    let requests = requests(2);
    let sender = FakePrefill::new(&decode, TransportChoice::Auto, None);
    let blocking = new_transfer();
    let blocked = start_decode(&decode, &requests[0], blocking).await.expect("taken in");
    let handle = sender.push(&decode, &requests[0], blocking);
    StateView::subscribe(&decode).await.until(|view| view.load.free_blocks == 8).await;

    let transfer = new_transfer();
    let second = start_decode(&decode, &requests[1], transfer).await.expect("taken in");
    let first = start_prefill(&prefill, &requests[1], transfer, decode.kv()).await;
    first.expect("taken in").finish().await.expect("prefilled");
    prefill.drain();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!prefill.has_ended(), "the blocks have not left yet");
    blocked.cancel().await.expect("a last word");
    drop(handle);
    let answer = second.finish().await.expect("decoded");
    assert_eq!(answer.usage.prompt, 0, "the blocks were handed over");
    prefill.ended().await.expect("in order");
}

#[tokio::test]
async fn the_grace_has_an_end() {
    let options =
        WorkerOptions { drain_timeout: Duration::from_millis(300), ..WorkerOptions::default() };
    let mut decode = TestWorker::start(Role::Decode, &options).await;
    let waiting = start_decode(&decode, &requests(1)[0], new_transfer()).await.expect("taken in");
    decode.drain();
    let moved = waiting.finish().await.expect("a last word");
    assert!(moved.leaving && moved.tokens.is_empty(), "it never got its KV");
    decode.ended().await.expect("in order");
}

#[tokio::test]
async fn a_refused_worker_says_why_and_ends() {
    let router = FakeRouter::refusing("another model is served here").await;
    for role in [Role::Prefill, Role::Decode] {
        let error = run_to_its_end(role, &WorkerOptions::default(), &router).await.unwrap_err();
        let WorkerError::Refused { reason, .. } = error else { panic!("{error}") };
        assert_eq!(reason, "another model is served here");
    }
}

#[tokio::test]
async fn the_reference_backend_hands_nothing_over() {
    let options = WorkerOptions { backend: BackendKind::Reference, ..WorkerOptions::default() };
    let router = FakeRouter::start().await;
    let error = run_to_its_end(Role::Prefill, &options, &router).await.unwrap_err();
    assert!(matches!(error, WorkerError::NoHandOff), "{error}");

    let decode = TestWorker::start(Role::Decode, &options).await;
    assert_eq!(decode.info.kv, None);
    let request = &requests(1)[0];
    let leg = start_decode(&decode, request, new_transfer()).await.expect("taken in");
    let answer = leg.finish().await.expect("computed here");
    assert_eq!(answer.tokens, aggregated(&decode, request).await.tokens);
}

/// A dropped worker future, not drained, lets go of everything too: the next worker starts beside it.
#[tokio::test]
async fn a_killed_worker_can_be_replaced() {
    let prefill = TestWorker::start(Role::Prefill, &WorkerOptions::default()).await;
    let mut decode = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    let request = &requests(1)[0];
    let tokens = disaggregated(&prefill, &decode, request).await.tokens();
    decode.kill();
    let decode = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    let both = disaggregated(&prefill, &decode, request).await;
    assert!(both.was_handed_over());
    assert_eq!(both.tokens(), tokens);
}
