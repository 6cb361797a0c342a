//! A client of one leg, and of both legs of a request.

use crate::PATIENCE;
use crate::model::hashes;
use crate::worker::TestWorker;
use estafette_proto::v1::{self, run_event, run_input, run_start};
use estafette_proto::{hashes_to_bytes, v1::worker_client::WorkerClient};
use estafette_types::{ErrorCode, SamplingParams, TransferId, Usage};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// What is asked of the workers.
#[derive(Clone, Debug)]
pub struct TestRequest {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// The beginning of the answer, from elsewhere.
    pub output: Vec<u32>,
    /// How tokens are chosen.
    pub params: SamplingParams,
    /// The longest answer.
    pub max_tokens: u32,
    /// For each leg.
    pub timeout: Duration,
}

impl TestRequest {
    /// Greedy, with log-probabilities, never ended by a stop token.
    pub fn greedy(prompt: Vec<u32>, max_tokens: u32) -> Self {
        let params = SamplingParams { logprobs: Some(2), ..SamplingParams::greedy() };
        Self { prompt, output: Vec::new(), params, max_tokens, timeout: PATIENCE }
    }

    /// With every part of the sampler at work.
    pub fn sampled(prompt: Vec<u32>, max_tokens: u32, seed: u64) -> Self {
        let params = SamplingParams {
            temperature: 0.9,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.01,
            repetition_penalty: 1.1,
            presence_penalty: 0.2,
            frequency_penalty: 0.1,
            seed,
            logprobs: Some(3),
        };
        Self { params, ..Self::greedy(prompt, max_tokens) }
    }

    /// With another time for each leg.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same, when the client has `tokens` already.
    #[must_use]
    pub fn after(self, tokens: &[v1::Token]) -> Self {
        Self { output: tokens.iter().map(|token| token.id).collect(), ..self }
    }

    /// As sent to a worker with this model.
    pub fn to_wire(&self, model_digest: &[u8], leg: run_start::Leg) -> v1::RunStart {
        let given = [&self.prompt[..], &self.output].concat();
        v1::RunStart {
            request_id: vec![0; 16].into(),
            prompt: self.prompt.clone(),
            output: self.output.clone(),
            block_hashes: hashes_to_bytes(&hashes(model_digest, &given)),
            sampling: Some(v1::Sampling::from(&self.params)),
            max_tokens: self.max_tokens,
            stop_token_ids: Vec::new(),
            ignore_eos: true,
            timeout_ms: self.timeout.as_millis() as u32,
            leg: Some(leg),
        }
    }
}

/// A running leg. Dropping it goes away like a client that disconnects.
#[derive(Debug)]
pub struct Leg {
    input: mpsc::Sender<v1::RunInput>,
    events: Streaming<v1::RunEvent>,
    /// What came so far.
    pub tokens: Vec<v1::Token>,
}

/// What a leg that ended in the regular way said.
#[derive(Clone, Debug, PartialEq)]
pub struct LegAnswer {
    /// In the order in which they came.
    pub tokens: Vec<v1::Token>,
    /// Why it ended.
    pub reason: v1::FinishReason,
    /// What the worker did.
    pub usage: Usage,
    /// The worker leaves, so the answer is not complete.
    pub leaving: bool,
}

impl Leg {
    /// Starts a leg.
    ///
    /// # Errors
    /// What the worker says.
    pub async fn start(worker: &TestWorker, start: v1::RunStart) -> Result<Self, Status> {
        let (input, inputs) = mpsc::channel(4);
        let first = v1::RunInput { input: Some(run_input::Input::Start(start)) };
        input.try_send(first).expect("an empty queue");
        let mut client = WorkerClient::new(worker.channel.clone());
        let running = client.run(ReceiverStream::new(inputs));
        let answered = tokio::time::timeout(PATIENCE, running).await.expect("answered in time");
        Ok(Self { input, events: answered?.into_inner(), tokens: Vec::new() })
    }

    /// The next token, or the end.
    ///
    /// # Errors
    /// What the worker says.
    pub async fn next(&mut self) -> Result<Option<LegAnswer>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.events.message()).await;
        match next.expect("an event in time")?.and_then(|event| event.event) {
            Some(run_event::Event::Token(token)) => {
                self.tokens.push(token);
                Ok(None)
            }
            Some(run_event::Event::Finished(finished)) => Ok(Some(LegAnswer {
                tokens: std::mem::take(&mut self.tokens),
                reason: finished.reason(),
                leaving: finished.leaving,
                usage: finished.usage.map(Usage::from).expect("a count"),
            })),
            None => Err(Status::unavailable("the stream ended before the answer did")),
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What the worker says.
    pub async fn finish(mut self) -> Result<LegAnswer, Status> {
        loop {
            if let Some(answer) = self.next().await? {
                return Ok(answer);
            }
        }
    }

    /// Waits for `count` tokens.
    ///
    /// # Errors
    /// What the worker says; or that it ended before.
    pub async fn tokens(&mut self, count: usize) -> Result<(), Status> {
        while self.tokens.len() < count {
            if self.next().await?.is_some() {
                return Err(Status::out_of_range("it ended before"));
            }
        }
        Ok(())
    }

    /// Tells the worker to stop, and waits for its count.
    ///
    /// # Errors
    /// What the worker says.
    pub async fn cancel(self) -> Result<LegAnswer, Status> {
        let cancel = v1::RunInput { input: Some(run_input::Input::Cancel(v1::Cancel {})) };
        // It fails when the leg has just ended.
        drop(self.input.try_send(cancel));
        self.finish().await
    }
}

/// The stable code of an error.
pub fn code(status: &Status) -> &'static str {
    estafette_proto::error_code(status).map_or("", ErrorCode::as_str)
}

/// Starts `request` to be run by `worker` alone.
///
/// # Errors
/// What the worker says.
pub async fn start_aggregated(worker: &TestWorker, request: &TestRequest) -> Result<Leg, Status> {
    let leg = run_start::Leg::Aggregated(v1::Aggregated {});
    Leg::start(worker, request.to_wire(&digest(worker), leg)).await
}

/// Runs `request` on `worker` alone.
pub async fn aggregated(worker: &TestWorker, request: &TestRequest) -> LegAnswer {
    start_aggregated(worker, request).await.expect("taken in").finish().await.expect("answered")
}

/// An id that no other hand-off of this process has.
pub fn new_transfer() -> TransferId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    TransferId(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Starts the prefill leg of a hand-off to `decode`.
///
/// # Errors
/// What the worker says.
pub async fn start_prefill(
    worker: &TestWorker,
    request: &TestRequest,
    transfer: TransferId,
    decode: v1::KvEndpoint,
) -> Result<Leg, Status> {
    let transfer_id = transfer.to_bytes().to_vec().into();
    let leg = run_start::Leg::Prefill(v1::PrefillLeg { transfer_id, decode: Some(decode) });
    Leg::start(worker, request.to_wire(&digest(worker), leg)).await
}

/// Starts the decode leg of a hand-off.
///
/// # Errors
/// What the worker says.
pub async fn start_decode(
    worker: &TestWorker,
    request: &TestRequest,
    transfer: TransferId,
) -> Result<Leg, Status> {
    let transfer_id = transfer.to_bytes().to_vec().into();
    let leg = run_start::Leg::Decode(v1::DecodeLeg { transfer_id });
    Leg::start(worker, request.to_wire(&digest(worker), leg)).await
}

/// What both legs said.
#[derive(Clone, Debug)]
pub struct BothLegs {
    /// The prefill leg.
    pub prefill: LegAnswer,
    /// The decode leg.
    pub decode: LegAnswer,
}

impl BothLegs {
    /// The answer as the router puts it together: each index once. A repeat must be the same token.
    pub fn tokens(&self) -> Vec<v1::Token> {
        let mut by_index: BTreeMap<u32, v1::Token> = BTreeMap::new();
        for token in self.prefill.tokens.iter().chain(&self.decode.tokens) {
            let known = by_index.entry(token.index).or_insert_with(|| token.clone());
            assert_eq!(known, token, "a repeat differs");
        }
        by_index.into_values().collect()
    }

    /// Whether the KV was taken over.
    pub fn was_handed_over(&self) -> bool {
        self.decode.usage.prompt == 0
    }
}

/// Runs `request` on both workers, both legs at once.
pub async fn disaggregated(
    prefill: &TestWorker,
    decode: &TestWorker,
    request: &TestRequest,
) -> BothLegs {
    let transfer = new_transfer();
    let (prefill, decode) = tokio::join!(
        async { start_prefill(prefill, request, transfer, decode.kv()).await?.finish().await },
        async { start_decode(decode, request, transfer).await?.finish().await },
    );
    BothLegs { prefill: prefill.expect("prefilled"), decode: decode.expect("decoded") }
}

fn digest(worker: &TestWorker) -> Vec<u8> {
    worker.info.pool.as_ref().expect("a pool").model_digest.to_vec()
}
