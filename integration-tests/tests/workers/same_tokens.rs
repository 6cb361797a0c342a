//! The same request gives bit-identical tokens and log-probabilities wherever its prompt is computed.

use estafette_config::Transport;
use estafette_integration_tests::leg::{
    BothLegs, LegAnswer, TestRequest, aggregated, disaggregated, new_transfer, start_prefill,
};
use estafette_integration_tests::model::{TINY_VOCAB, prompt, real};
use estafette_integration_tests::state::idle_state;
use estafette_integration_tests::worker::{TestWorker, WorkerOptions};
use estafette_proto::v1;
use estafette_types::{Role, Usage};
use futures_util::future::join_all;

const ANSWER: u32 = 24;
const LENGTHS: [usize; 5] = [1, 15, 16, 17, 200];
const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Shm];

/// Which of the two workers has seen the prompt before.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cached {
    prefill: bool,
    decode: bool,
}

const EVERYWHERE_OR_NOT: [Cached; 4] = [
    Cached { prefill: false, decode: false },
    Cached { prefill: false, decode: true },
    Cached { prefill: true, decode: false },
    Cached { prefill: true, decode: true },
];

struct Pair {
    prefill: TestWorker,
    decode: TestWorker,
}

impl Pair {
    async fn start(options: &WorkerOptions) -> Self {
        Self {
            prefill: TestWorker::start(Role::Prefill, options).await,
            decode: TestWorker::start(Role::Decode, options).await,
        }
    }

    /// Brings the prompt into the caches, then runs it on both workers.
    async fn run(&self, request: &TestRequest, cached: Cached) -> BothLegs {
        if cached.prefill {
            // Its push fails at once; what it computed stays.
            let nowhere = v1::KvEndpoint { tcp: "127.0.0.1:1".into(), ..v1::KvEndpoint::default() };
            let leg = start_prefill(&self.prefill, request, new_transfer(), nowhere).await;
            leg.expect("taken in").finish().await.expect("prefilled");
        }
        if cached.decode {
            aggregated(&self.decode, request).await;
        }
        let both = disaggregated(&self.prefill, &self.decode, request).await;
        let len = request.prompt.len() as u64;
        // The last token is always computed.
        let found = if cached.prefill { (len - 1) / 16 * 16 } else { 0 };
        let usage = Usage {
            prompt: len,
            cached: found,
            computed: len - found,
            recomputed: 0,
            generated: 1,
        };
        assert_eq!(both.prefill.usage, usage, "{cached:?}");
        let generated = u64::from(request.max_tokens) - 1;
        let usage = Usage { generated, ..Usage::default() };
        assert_eq!(both.decode.usage, usage, "the decode worker computes no prompt");
        both
    }
}

fn assert_same(found: &BothLegs, expected: &LegAnswer, what: &str) {
    let tokens = found.tokens();
    assert_eq!(tokens.len(), expected.tokens.len(), "{what}");
    for (found, expected) in tokens.iter().zip(&expected.tokens) {
        let bits = |token: &v1::Token| {
            let top: Vec<_> = token.top.iter().map(|t| (t.id, t.logprob.to_bits())).collect();
            (token.index, token.id, token.logprob.map(f32::to_bits), top)
        };
        assert!(found.logprob.is_some() && !found.top.is_empty(), "{what}");
        assert_eq!(bits(found), bits(expected), "{what}");
    }
    assert_eq!(found.decode.reason, expected.reason, "{what}");
}

/// Every prompt greedy and sampled, every way to be cached. All of them at once: what shares a step changes nothing.
async fn every_case(pair: &Pair, reference: &TestWorker, what: &str) {
    let mut cases = Vec::new();
    for (i, len) in LENGTHS.into_iter().enumerate() {
        for (j, cached) in EVERYWHERE_OR_NOT.into_iter().enumerate() {
            let tokens = |k: usize| prompt((100 * i + 10 * j + k) as u64, len, TINY_VOCAB);
            cases.push((TestRequest::greedy(tokens(0), ANSWER), cached));
            cases.push((TestRequest::sampled(tokens(1), ANSWER, 77 + len as u64), cached));
        }
    }
    // A prompt of one token may be another one's by chance, but it is never cached.
    let both = join_all(cases.iter().map(|(request, cached)| pair.run(request, *cached))).await;
    for ((request, cached), both) in cases.iter().zip(both) {
        let alone = aggregated(reference, request).await;
        let len = request.prompt.len();
        assert_same(&both, &alone, &format!("{what}, {cached:?}, a prompt of {len}"));
        let differ: std::collections::BTreeSet<_> = alone.tokens.iter().map(|t| t.id).collect();
        assert!(differ.len() > 1, "an answer of one token over and over proves little");
    }
    idle_state(&pair.prefill).await;
    idle_state(&pair.decode).await;
}

#[tokio::test]
async fn aggregated_and_disaggregated_give_the_same_bits() {
    let reference = TestWorker::start(Role::Decode, &WorkerOptions::default().chunk(512)).await;
    for transport in TRANSPORTS {
        for chunk in [16, 64, 512] {
            let options = WorkerOptions::default().transport(transport).chunk(chunk);
            let pair = Pair::start(&options).await;
            let what = format!("{transport:?}, chunks of {chunk}");
            every_case(&pair, &reference, &what).await;
        }
    }
}

#[tokio::test]
async fn layers_may_travel_together() {
    let reference = TestWorker::start(Role::Decode, &WorkerOptions::default()).await;
    for layers_per_group in [2, 9] {
        let options = WorkerOptions { layers_per_group, ..WorkerOptions::default().chunk(16) };
        let pair = Pair::start(&options).await;
        every_case(&pair, &reference, &format!("{layers_per_group} layers per group")).await;
    }
}

/// An answer that ends with its first token: both workers come to the same end.
#[tokio::test]
async fn an_answer_of_one_token_ends_on_both_sides() {
    let options = WorkerOptions::default();
    let pair = Pair::start(&options).await;
    let request = TestRequest::greedy(prompt(3, 50, TINY_VOCAB), 1);
    let both = disaggregated(&pair.prefill, &pair.decode, &request).await;
    assert!(both.was_handed_over());
    assert_eq!(both.decode.tokens, []);
    let alone = aggregated(&pair.decode, &request).await;
    assert_same(&both, &alone, "one token");
}

/// The real model, whose 30 layers leave one by one while the next ones are computed.
#[tokio::test]
async fn the_real_model_gives_the_same_bits() {
    let options = WorkerOptions { model: real(), kv_bytes: 64 << 20, ..WorkerOptions::default() };
    let reference = TestWorker::start(Role::Decode, &options.clone().chunk(512)).await;
    let tokens = prompt(1, 150, 40_000);
    let greedy = TestRequest::greedy(tokens.clone(), 8);
    let sampled = TestRequest::sampled(tokens, 8, 4);
    let expected = (aggregated(&reference, &greedy).await, aggregated(&reference, &sampled).await);
    for transport in TRANSPORTS {
        let pair = Pair::start(&options.clone().transport(transport)).await;
        for (request, expected) in [(&greedy, &expected.0), (&sampled, &expected.1)] {
            let both = disaggregated(&pair.prefill, &pair.decode, request).await;
            assert!(both.was_handed_over());
            assert_same(&both, expected, &format!("{transport:?}"));
        }
    }
}
