//! Every token is counted once, every block comes back, and the state stream says so.

use estafette_config::Transport;
use estafette_integration_tests::leg::{
    Leg, LegAnswer, TestRequest, disaggregated, new_transfer, start_aggregated, start_decode,
    start_prefill,
};
use estafette_integration_tests::model::{TINY_VOCAB, prompt};
use estafette_integration_tests::state::{StateView, idle_state};
use estafette_integration_tests::worker::{TestWorker, WorkerOptions};
use estafette_proto::v1::FinishReason;
use estafette_types::{Role, SplitMix64, Usage};
use futures_util::future::join_all;
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It runs to its end.
    Ends,
    /// It is given up after so many tokens of the decode leg, or of the prefill leg when there are none.
    AfterTokens(usize),
    /// It is given up after so long.
    After(Duration),
}

struct Plan {
    request: TestRequest,
    hand_over: bool,
    fate: Fate,
}

/// Mixed lengths, a third of the prompts begin alike, a third is not handed over, half of them are given up.
fn plan(rng: &mut SplitMix64) -> Plan {
    let (len, answer) = (1 + rng.below(200) as usize, 1 + rng.below(50) as u32);
    let mut tokens = prompt(rng.next_u64(), len, TINY_VOCAB);
    if rng.below(3) == 0 {
        let shared = len.min(100);
        tokens[..shared].copy_from_slice(&prompt(1, 100, TINY_VOCAB)[..shared]);
    }
    let fate = match rng.below(4) {
        0 => Fate::AfterTokens(rng.below(20) as usize),
        1 => Fate::After(Duration::from_millis(rng.below(60))),
        _ => Fate::Ends,
    };
    let request = TestRequest::sampled(tokens, answer, rng.next_u64());
    Plan { request, hand_over: rng.below(3) > 0, fate }
}

/// Lets a leg run until its fate; its answer when it ended before.
async fn run_until(leg: &mut Leg, fate: Fate) -> Option<LegAnswer> {
    let wait = async {
        loop {
            if let Some(answer) = leg.next().await.expect("no error") {
                return answer;
            }
            if matches!(fate, Fate::AfterTokens(tokens) if leg.tokens.len() >= tokens) {
                std::future::pending::<()>().await;
            }
        }
    };
    let limit = match fate {
        Fate::Ends => Duration::MAX,
        Fate::After(time) => time,
        // Long enough for the tokens to come first.
        Fate::AfterTokens(_) => Duration::from_millis(300),
    };
    tokio::time::timeout(limit, wait).await.ok()
}

/// The work that a leg's worker counted for it.
async fn cancelled(mut leg: Leg, fate: Fate) -> Usage {
    let answer = match run_until(&mut leg, fate).await {
        Some(answer) => answer,
        None => leg.cancel().await.expect("a last word"),
    };
    if matches!(fate, Fate::Ends) {
        assert_ne!(answer.reason, FinishReason::Cancelled);
    }
    assert!(answer.usage.is_balanced(), "{:?}", answer.usage);
    answer.usage
}

async fn dropped(mut leg: Leg, fate: Fate) {
    drop(run_until(&mut leg, fate).await);
}

async fn start(prefill: &TestWorker, decode: &TestWorker, plan: &Plan) -> (Option<Leg>, Leg) {
    let request = &plan.request;
    if !plan.hand_over {
        return (None, start_aggregated(decode, request).await.expect("taken in"));
    }
    let transfer = new_transfer();
    let (first, second) = tokio::join!(
        start_prefill(prefill, request, transfer, decode.kv()),
        start_decode(decode, request, transfer),
    );
    (Some(first.expect("taken in")), second.expect("taken in"))
}

async fn workers(transport: Transport) -> (TestWorker, TestWorker) {
    let options = WorkerOptions::default().transport(transport).blocks(120);
    let prefill = TestWorker::start(Role::Prefill, &options).await;
    (prefill, TestWorker::start(Role::Decode, &options).await)
}

#[tokio::test]
async fn the_workers_count_what_the_legs_were_told() {
    for transport in [Transport::Tcp, Transport::Shm] {
        let (prefill, decode) = workers(transport).await;
        let mut rng = SplitMix64::new(11);
        let plans: Vec<_> = (0..200).map(|_| plan(&mut rng)).collect();
        let legs = plans.iter().map(|plan| async {
            let (first, second) = start(&prefill, &decode, plan).await;
            let first = async {
                match first {
                    Some(leg) => cancelled(leg, plan.fate).await,
                    None => Usage::default(),
                }
            };
            tokio::join!(first, cancelled(second, plan.fate))
        });
        let mut sums = (Usage::default(), Usage::default());
        for (first, second) in join_all(legs).await {
            sums.0 += first;
            sums.1 += second;
        }
        let (first, second) = (idle_state(&prefill).await, idle_state(&decode).await);
        assert_eq!((first.load.done, second.load.done), sums);
        assert!(sums.0.cached > 0 && sums.1.cached > 0, "the caches were of use: {sums:?}");
    }
}

#[tokio::test]
async fn clients_that_vanish_leave_nothing_behind() {
    for transport in [Transport::Tcp, Transport::Shm] {
        let (prefill, decode) = workers(transport).await;
        let mut rng = SplitMix64::new(12);
        let plans: Vec<_> = (0..200).map(|_| plan(&mut rng)).collect();
        let legs = plans.iter().map(|plan| async {
            let (first, second) = start(&prefill, &decode, plan).await;
            let first = async {
                if let Some(leg) = first {
                    dropped(leg, plan.fate).await;
                }
            };
            tokio::join!(first, dropped(second, plan.fate));
        });
        join_all(legs).await;
        for worker in [&prefill, &decode] {
            let done = idle_state(worker).await.load.done;
            assert!(done.is_balanced(), "{done:?}");
        }
        let request = TestRequest::greedy(prompt(9, 99, TINY_VOCAB), 9);
        assert!(disaggregated(&prefill, &decode, &request).await.was_handed_over());
    }
}

/// The pool holds a few prompts only, so blocks come and go all the time.
#[tokio::test]
async fn snapshot_and_deltas_give_the_cache() {
    let options = WorkerOptions::default().blocks(40);
    let prefill = TestWorker::start(Role::Prefill, &options).await;
    let decode = TestWorker::start(Role::Decode, &options).await;
    let mut of_prefill = StateView::subscribe(&prefill).await;
    let mut of_decode = StateView::subscribe(&decode).await;
    let mut halfway = None;
    for round in 1..=20 {
        let requests: Vec<_> = (0..4)
            .map(|i| {
                let len = 60 + 30 * i as usize;
                TestRequest::greedy(prompt(round * 4 + i, len, TINY_VOCAB), 20)
            })
            .collect();
        // The streams are read meanwhile: who lags behind is cut off.
        tokio::join!(
            join_all(requests.iter().map(|request| disaggregated(&prefill, &decode, request))),
            of_prefill.until(|view| view.load.done.generated == round * 4),
            of_decode.until(|view| view.load.done.generated == round * 4 * 19),
        );
        if round == 10 {
            halfway = Some(StateView::subscribe(&decode).await);
        } else if let Some(view) = &mut halfway {
            view.until(|view| view.load.done.generated == round * 4 * 19).await;
        }
    }
    let mut halfway = halfway.expect("it was round 10 once");
    for (worker, view) in
        [(&prefill, &mut of_prefill), (&decode, &mut of_decode), (&decode, &mut halfway)]
    {
        let fresh = idle_state(worker).await;
        view.until(|view| view.load == fresh.load).await;
        assert_eq!(view.hashes, fresh.hashes);
        assert!(!fresh.hashes.is_empty() && fresh.hashes.len() <= 40);
    }
}
