//! Hand-offs that fail: the answer is still right, and every block comes back.

use crate::fake_prefill::FakePrefill;
use estafette_config::Transport;
use estafette_integration_tests::leg::{
    BothLegs, LegAnswer, TestRequest, aggregated, disaggregated, new_transfer, start_decode,
    start_prefill,
};
use estafette_integration_tests::model::{TINY_VOCAB, prompt, real};
use estafette_integration_tests::state::{StateView, idle_state};
use estafette_integration_tests::worker::{TestWorker, WorkerOptions};
use estafette_kv_transfer::{Fault, FaultPlan, HandoffError, TransportChoice, When};
use estafette_proto::v1;
use estafette_types::{Role, Usage};
use std::time::Duration;

const TRANSPORTS: [(Transport, TransportChoice); 2] =
    [(Transport::Tcp, TransportChoice::Tcp), (Transport::Shm, TransportChoice::Shm)];

async fn start(role: Role, transport: Transport) -> TestWorker {
    TestWorker::start(role, &WorkerOptions::default().transport(transport)).await
}

fn request(seed: u64) -> TestRequest {
    TestRequest::sampled(prompt(seed, 100, TINY_VOCAB), 30, seed)
}

/// The worker computed the whole answer itself, and it is the same as ever.
async fn assert_fell_back(worker: &TestWorker, request: &TestRequest, answer: &LegAnswer) {
    assert_computed_behind(worker, request, answer, 0).await;
}

/// The worker computed the answer behind the first `cached` tokens, and it is the same as ever.
async fn assert_computed_behind(
    worker: &TestWorker,
    request: &TestRequest,
    answer: &LegAnswer,
    cached: u64,
) {
    let prompt = request.prompt.len() as u64;
    let (computed, generated) = (prompt - cached, request.max_tokens.into());
    let usage = Usage { prompt, cached, computed, generated, ..Usage::default() };
    assert_eq!(answer.usage, usage);
    idle_state(worker).await;
    assert_eq!(answer.tokens, aggregated(worker, request).await.tokens);
}

/// Both legs, with another endpoint than the decode worker's.
async fn with_endpoint(
    prefill: &TestWorker,
    decode: &TestWorker,
    request: &TestRequest,
    endpoint: v1::KvEndpoint,
) -> BothLegs {
    let transfer = new_transfer();
    let (first, second) = tokio::join!(
        async { start_prefill(prefill, request, transfer, endpoint).await?.finish().await },
        async { start_decode(decode, request, transfer).await?.finish().await },
    );
    BothLegs { prefill: first.expect("prefilled"), decode: second.expect("decoded") }
}

#[tokio::test]
async fn a_wrong_endpoint_costs_time_only() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    let decode = start(Role::Decode, Transport::Auto).await;
    let nowhere =
        v1::KvEndpoint { tcp: "127.0.0.1:1".into(), unix_socket: String::new(), ..decode.kv() };
    let stale = v1::KvEndpoint { incarnation: 1, ..decode.kv() };
    for (seed, endpoint) in [(1, nowhere), (2, stale)] {
        let request = request(seed).within(Duration::from_secs(4));
        let both = with_endpoint(&prefill, &decode, &request, endpoint).await;
        assert_eq!(both.tokens(), both.decode.tokens, "index 0 came from both, and is the same");
        assert_fell_back(&decode, &request, &both.decode).await;
        idle_state(&prefill).await;
    }
}

#[tokio::test]
async fn a_missing_socket_means_tcp() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    let decode = start(Role::Decode, Transport::Auto).await;
    let elsewhere = v1::KvEndpoint { unix_socket: "/nonexistent/kv.sock".into(), ..decode.kv() };
    let request = request(3);
    let both = with_endpoint(&prefill, &decode, &request, elsewhere).await;
    assert!(both.was_handed_over());
    assert_eq!(both.tokens(), aggregated(&decode, &request).await.tokens);
}

#[tokio::test]
async fn workers_of_different_pools_do_not_mix() {
    let grouped = WorkerOptions { layers_per_group: 2, ..WorkerOptions::default() };
    let prefill = TestWorker::start(Role::Prefill, &grouped).await;
    let decode = start(Role::Decode, Transport::Auto).await;
    let request = request(4).within(Duration::from_secs(4));
    let both = disaggregated(&prefill, &decode, &request).await;
    assert_fell_back(&decode, &request, &both.decode).await;
    idle_state(&prefill).await;
}

/// A unit whose checksum is wrong, or that does not come at all, is sent again; nothing is computed twice.
#[tokio::test]
async fn only_damaged_and_lost_units_travel_again() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    let oracle = start(Role::Decode, Transport::Auto).await;
    for (transport, choice) in TRANSPORTS {
        let decode = start(Role::Decode, transport).await;
        for (seed, fault, units) in [(5, Fault::FlipBit, 1), (6, Fault::Drop, 3)] {
            let plan = FaultPlan::one(When::Part(4), fault);
            let request = request(seed);
            let mut sender =
                FakePrefill::with_kv(&decode, choice, Some(plan), &prefill, &request).await;
            let expected = aggregated(&oracle, &request).await;
            let transfer = new_transfer();
            let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
            let handle = sender.push(&decode, &request, transfer);
            sender.finish_with(handle, &request, expected.tokens[0].id);
            let answer = leg.finish().await.expect("answered");
            let stats = sender.outcome().await.result.expect("it was handed over");
            assert_eq!(stats.units_again, units, "{fault:?} over {transport:?}");
            assert_eq!(
                answer.usage.prompt, 0,
                "the prompt was not computed here: {:?}",
                answer.usage
            );
            assert_eq!(answer.tokens, expected.tokens[1..]);
            idle_state(&decode).await;
        }
    }
}

/// The connection breaks after three of the seven blocks are complete: they are not computed again.
#[tokio::test]
async fn what_has_come_before_the_connection_breaks_is_kept() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    for (transport, choice) in TRANSPORTS {
        let decode = start(Role::Decode, transport).await;
        let plan = FaultPlan::one(When::Part(4), Fault::Kill);
        let request = request(7);
        let mut sender =
            FakePrefill::with_kv(&decode, choice, Some(plan), &prefill, &request).await;
        let transfer = new_transfer();
        let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
        let handle = sender.push(&decode, &request, transfer);
        sender.finish(handle, &request);
        let answer = leg.finish().await.expect("answered");
        let error = sender.outcome().await.result.expect_err("it failed");
        assert!(matches!(error, HandoffError::PeerGone(_)), "{error}");
        assert_computed_behind(&decode, &request, &answer, 3 * 16).await;
    }
}

/// The sender lives and never ends. Over shared memory it could still store, until it has answered.
#[tokio::test]
async fn what_has_come_before_the_deadline_is_kept() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    for (transport, choice) in TRANSPORTS {
        let decode = start(Role::Decode, transport).await;
        let request = request(17).within(Duration::from_secs(3));
        let mut sender = FakePrefill::with_kv(&decode, choice, None, &prefill, &request).await;
        let transfer = new_transfer();
        let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
        let handle = sender.push(&decode, &request, transfer);
        handle.ready(0, 0..7);
        handle.ready(1, 0..4);
        let answer = leg.finish().await.expect("answered");
        assert_eq!(sender.outcome().await.result, Err(HandoffError::Expired));
        assert_computed_behind(&decode, &request, &answer, 4 * 16).await;
    }
}

/// The blocks are verified, but the token is outside the vocabulary.
#[tokio::test]
async fn a_first_token_that_is_none_is_not_taken() {
    for (transport, choice) in TRANSPORTS {
        let decode = start(Role::Decode, transport).await;
        for (seed, token) in [(15, TINY_VOCAB as u32), (16, u32::MAX)] {
            let sender = FakePrefill::new(&decode, choice, None);
            let request = request(seed);
            let transfer = new_transfer();
            let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
            let handle = sender.push(&decode, &request, transfer);
            sender.finish_with(handle, &request, token);
            let answer = leg.finish().await.expect("the engine is alive");
            assert_fell_back(&decode, &request, &answer).await;
        }
    }
}

/// Its push waits for a grant when the prefill worker dies.
#[tokio::test]
async fn a_prefill_worker_may_die_before_it_has_a_grant() {
    for (transport, choice) in TRANSPORTS {
        let mut prefill = start(Role::Prefill, transport).await;
        let options = WorkerOptions::default().transport(transport).blocks(12);
        let decode = TestWorker::start(Role::Decode, &options).await;
        let (blocker, request) = (request(8), request(9));
        // Seven of the twelve blocks.
        let sender = FakePrefill::new(&decode, choice, None);
        let blocking = new_transfer();
        let blocked = start_decode(&decode, &blocker, blocking).await.expect("taken in");
        let handle = sender.push(&decode, &blocker, blocking);
        StateView::subscribe(&decode).await.until(|view| view.load.free_blocks == 5).await;

        let transfer = new_transfer();
        let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
        let first = start_prefill(&prefill, &request, transfer, decode.kv()).await;
        let first = first.expect("taken in").finish().await.expect("prefilled");
        prefill.kill();
        handle.abort();
        let (answer, blocked) = (leg.finish().await.unwrap(), blocked.finish().await.unwrap());
        assert_eq!(first.tokens[0], answer.tokens[0]);
        assert_fell_back(&decode, &request, &answer).await;
        assert_fell_back(&decode, &blocker, &blocked).await;
    }
}

/// The real model takes long enough for its worker to die between two layers. What it has computed by then is not computed
/// again: all whole blocks but those that were still on their way.
#[tokio::test]
async fn a_prefill_worker_may_die_in_the_middle() {
    for transport in [Transport::Tcp, Transport::Shm] {
        let options =
            WorkerOptions { model: real(), kv_bytes: 32 << 20, ..WorkerOptions::default() };
        let options = options.transport(transport).chunk(16);
        let mut prefill = TestWorker::start(Role::Prefill, &options).await;
        let decode = TestWorker::start(Role::Decode, &options).await;
        let mut state = StateView::subscribe(&prefill).await;
        let request = TestRequest::greedy(prompt(10, 400, 40_000), 4);
        let transfer = new_transfer();
        let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
        let first = start_prefill(&prefill, &request, transfer, decode.kv()).await;
        let first = first.expect("taken in");
        // Eight blocks are computed, seventeen are not.
        state.until(|view| view.hashes.len() >= 8).await;
        prefill.kill();
        first.finish().await.expect_err("it died before the first token");
        let answer = leg.finish().await.expect("answered");
        let cached = answer.usage.cached;
        assert!((64..400).contains(&cached), "of 128 computed tokens {cached} came");
        assert_computed_behind(&decode, &request, &answer, cached).await;
    }
}

/// A writer that is stopped but not dead can still store into the shared pool: its blocks are kept out of use, and
/// the request goes on in others.
#[tokio::test]
async fn a_frozen_writer_keeps_its_blocks_and_nothing_else() {
    let decode = start(Role::Decode, Transport::Shm).await;
    let request = request(11).within(Duration::from_secs(3));
    let transfer = new_transfer();
    let leg = start_decode(&decode, &request, transfer).await.expect("taken in");
    let frozen = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut state = StateView::subscribe(&decode).await;
    let total = state.load.total_blocks;
    // A runtime that nobody drives is a process that nobody schedules.
    let (frozen, sender, handle) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (sender, handle) = frozen.block_on(async {
                let sender = FakePrefill::new(&decode, TransportChoice::Shm, None);
                let handle = sender.push(&decode, &request, transfer);
                tokio::time::sleep(Duration::from_millis(300)).await;
                (sender, handle)
            });
            (frozen, sender, handle)
        });
        writer.join().expect("it has a grant")
    });
    state.until(|view| view.load.free_blocks == total - 7).await;
    let answer = leg.finish().await.expect("answered");
    state.until(|view| view.load.decoding_sequences == 0 && view.load.done.generated == 30).await;
    assert_eq!(state.load.free_blocks, total - 7, "the writer might still store");
    drop((sender, handle));
    frozen.shutdown_background();
    assert_fell_back(&decode, &request, &answer).await;
}

#[tokio::test]
async fn a_transfer_has_one_leg_on_each_side() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    let decode = start(Role::Decode, Transport::Auto).await;
    let request = request(12);
    let transfer = new_transfer();
    let decode_legs = [
        start_decode(&decode, &request, transfer).await.expect("taken in"),
        start_decode(&decode, &request, transfer).await.expect("taken in"),
    ];
    let prefill_legs = [
        start_prefill(&prefill, &request, transfer, decode.kv()).await.expect("taken in"),
        start_prefill(&prefill, &request, transfer, decode.kv()).await.expect("taken in"),
    ];
    let expected = aggregated(&decode, &request).await.tokens;
    for leg in prefill_legs {
        assert_eq!(leg.finish().await.expect("prefilled").tokens, expected[..1]);
    }
    for leg in decode_legs {
        let tokens = leg.finish().await.expect("decoded").tokens;
        let from = tokens[0].index as usize;
        assert!(from <= 1);
        assert_eq!(tokens, expected[from..]);
    }
    idle_state(&prefill).await;
    idle_state(&decode).await;
}

/// The second push never begins while the first one waits for its decode leg.
#[tokio::test]
async fn a_push_that_cannot_begin_holds_no_blocks() {
    let prefill = start(Role::Prefill, Transport::Auto).await;
    let decode = start(Role::Decode, Transport::Auto).await;
    let transfer = new_transfer();
    for seed in [13, 14] {
        let leg = start_prefill(&prefill, &request(seed), transfer, decode.kv()).await;
        leg.expect("taken in").finish().await.expect("the first token is there all the same");
    }
    let mut state = StateView::subscribe(&prefill).await;
    let total = state.load.total_blocks;
    assert_eq!(state.load.free_blocks, total - 7, "of the first alone");
    state.until_idle().await;
}
