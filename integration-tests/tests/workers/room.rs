//! Pools that are too small for everything at once: everything finishes, in a fair order.

use crate::fake_prefill::FakePrefill;
use estafette_config::Transport;
use estafette_integration_tests::leg::{
    TestRequest, aggregated, disaggregated, new_transfer, start_decode,
};
use estafette_integration_tests::model::{TINY_VOCAB, prompt};
use estafette_integration_tests::state::{StateView, idle_state};
use estafette_integration_tests::worker::{TestWorker, WorkerOptions};
use estafette_kv_transfer::TransportChoice;
use estafette_types::Role;
use futures_util::future::join_all;

#[tokio::test]
async fn hand_offs_that_exceed_the_pool_come_one_after_the_other() {
    let roomy = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    for transport in [Transport::Tcp, Transport::Shm] {
        for (prefill_blocks, decode_blocks) in [(200, 16), (16, 200), (20, 20)] {
            let options = WorkerOptions::default().transport(transport);
            let prefill =
                TestWorker::start(Role::Prefill, &options.clone().blocks(prefill_blocks)).await;
            let decode = TestWorker::start(Role::Decode, &options.blocks(decode_blocks)).await;
            let requests: Vec<_> = (0..24_u64)
                .map(|i| {
                    TestRequest::greedy(prompt(i, 140 + 3 * i as usize, TINY_VOCAB), 10 + i as u32)
                })
                .collect();
            let running = requests.iter().map(|request| disaggregated(&prefill, &decode, request));
            let alone = requests[..8].iter().map(|request| aggregated(&decode, request));
            let (answers, alone) = tokio::join!(join_all(running), join_all(alone));
            for (request, both) in requests.iter().zip(&answers) {
                assert!(both.was_handed_over(), "a grant that waits is not a failure");
                assert_eq!(both.tokens(), aggregated(&roomy, request).await.tokens);
            }
            for (answer, both) in alone.iter().zip(&answers) {
                assert_eq!(answer.tokens, both.tokens());
            }
            idle_state(&prefill).await;
            idle_state(&decode).await;
        }
    }
}

/// Seven blocks each at the start, thirteen at the end, in a pool of twenty-two.
#[tokio::test]
async fn what_was_handed_over_may_be_preempted() {
    let roomy = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    let prefill = TestWorker::start(Role::Prefill, &WorkerOptions::default()).await;
    let decode = TestWorker::start(Role::Decode, &WorkerOptions::default().blocks(22)).await;
    let requests: Vec<_> =
        (0..9).map(|i| TestRequest::sampled(prompt(i, 100, TINY_VOCAB), 100, i)).collect();
    let answers =
        join_all(requests.iter().map(|request| disaggregated(&prefill, &decode, request))).await;
    for (request, both) in requests.iter().zip(answers) {
        assert!(both.was_handed_over());
        assert_eq!(both.tokens(), aggregated(&roomy, request).await.tokens);
    }
    let done = idle_state(&decode).await.load.done;
    assert!(done.recomputed > 0, "nobody was preempted");
    assert_eq!(done.computed, 0);
}

/// The small one would fit, but it came later.
#[tokio::test]
async fn grants_are_given_oldest_first() {
    let decode = TestWorker::start(Role::Decode, &WorkerOptions::default().blocks(20)).await;
    let sender = FakePrefill::new(&decode, TransportChoice::Auto, None);
    let mut legs = Vec::new();
    let mut pushes = Vec::new();
    for (seed, len) in [(1, 200), (2, 150), (3, 10)] {
        let request = TestRequest::greedy(prompt(seed, len, TINY_VOCAB), 5);
        let transfer = new_transfer();
        legs.push(start_decode(&decode, &request, transfer).await.expect("taken in"));
        pushes.push((transfer, request));
    }
    let mut state = StateView::subscribe(&decode).await;
    let mut handles = Vec::new();
    for (transfer, request) in &pushes {
        handles.push(sender.push(&decode, request, *transfer));
        state.until(|view| view.load.free_blocks == 7).await;
    }
    state.catch_up().await;
    assert_eq!(state.load.free_blocks, 7, "thirteen for the first, the others wait");
    // The first is computed here now. Then the second gets its ten, and the third its one.
    drop(handles.remove(0));
    state.until(|view| view.load.free_blocks == 9).await;
    handles.clear();
    for leg in legs {
        assert_eq!(leg.finish().await.expect("answered").tokens.len(), 5);
    }
    idle_state(&decode).await;
}
