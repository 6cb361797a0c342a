//! What the router knows about its workers, and its choice among them.
//!
//! The block index is read and written without a lock. One lock guards the rest: who is there, and what each has to do
//! (its load record and the receipts of what was just sent). Nothing waits while it is held.

mod explain;
mod lost;
mod named;
mod registry;
mod view;
mod waiting;

pub(crate) use explain::Explained;
pub(crate) use lost::{Fate, Lost};
pub(crate) use named::Named;
pub(crate) use view::Counts;

use crate::budget::RetryBudget;
use crate::metrics::RouterMetrics;
use crate::model::ServedModel;
use crate::request::AnswerRequest;
use estafette_config::{QueueOrder, RouterSettings};
use estafette_kv_index::{KvIndex, WorkerSlot};
use estafette_proto::v1;
use estafette_routing::{Choice, Decision, NoChoice, Receipt, Request};
use estafette_security::Tls;
use estafette_types::{
    BlockHash, Incarnation, KvEvent, LoadRecord, SplitMix64, TransferId, WorkerId,
};
use registry::{Address, Registry};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout_at;
use tonic::Status;
use tonic::transport::Channel;
use waiting::{Place, WaitingRoom};

/// Blocks of workers that have not joined yet: what the engine uses on CPU.
const DEFAULT_BLOCK_SIZE: u32 = 16;

/// How often an answer that waits for workers to come back looks for one.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The floor of the retry budget is for so long.
const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// Who a worker is: name and incarnation. The slot is its place in the router's tables, free for others once it has left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkerKey {
    pub(crate) slot: u32,
    pub(crate) id: WorkerId,
    pub(crate) incarnation: Incarnation,
}

impl fmt::Display for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.incarnation)
    }
}

/// Workers that must not run this request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Excluded {
    /// Those that have failed it: a few, sorted.
    failed: Vec<WorkerKey>,
    /// Only these would go on with the same tokens.
    numerics_id: Option<Arc<str>>,
}

impl Excluded {
    pub(crate) fn add(&mut self, worker: WorkerKey) {
        if let Err(at) = self.failed.binary_search(&worker) {
            self.failed.insert(at, worker);
        }
    }

    /// Lets those that have failed the request run it again; whether there were any.
    pub(crate) fn forgive(&mut self) -> bool {
        !std::mem::take(&mut self.failed).is_empty()
    }

    /// Part of the answer is delivered: the rest must come from workers that compute in the same way.
    pub(crate) fn keep_to(&mut self, numerics_id: Arc<str>) {
        self.numerics_id.get_or_insert(numerics_id);
    }

    fn contains(&self, worker: &WorkerKey, numerics_id: &str) -> bool {
        self.failed.contains(worker)
            || self.numerics_id.as_deref().is_some_and(|wanted| wanted != numerics_id)
    }
}

/// What a request must fit into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Tokens of a block.
    pub(crate) block_size: u32,
    /// The longest sequence, prompt and answer together.
    pub(crate) max_model_len: u32,
}

/// A worker that was chosen for a leg.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) worker: WorkerKey,
    pub(crate) channel: Channel,
    /// Where it takes KV blocks; decode workers only.
    pub(crate) kv: Option<v1::KvEndpoint>,
    pub(crate) booked: Booked<'a>,
    /// Hears when the worker is lost.
    pub(crate) lost: Lost,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    /// `None`: the decode worker runs the prompt itself.
    pub(crate) prefill: Option<Target<'a>>,
    pub(crate) decode: Target<'a>,
    pub(crate) transfer: TransferId,
    /// How they compute.
    pub(crate) numerics_id: Arc<str>,
}

/// A leg's place in a worker's load until the worker counts it itself. Dropping it takes the leg out, whatever ended it.
#[derive(Debug)]
pub(crate) struct Booked<'a> {
    cluster: &'a Cluster,
    /// Given back when this is dropped.
    receipt: Option<Receipt>,
    taken_in: AtomicBool,
}

impl Booked<'_> {
    /// The worker has said something about the leg, so it counts it.
    pub(crate) fn taken_in(&self) {
        if let Some(receipt) =
            self.receipt.as_ref().filter(|_| !self.taken_in.swap(true, Ordering::Relaxed))
        {
            self.cluster.lock().taken_in(receipt);
        }
    }
}

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            self.cluster.lock().finished(receipt);
        }
    }
}

/// The decision's summary, for the request's span.
fn note(decision: &Decision, prefill: Option<&Target<'_>>, decode: &Target<'_>) {
    let span = tracing::Span::current();
    span.record("decode", tracing::field::display(&decode.worker.id));
    if let Some(prefill) = prefill {
        span.record("prefill", tracing::field::display(&prefill.worker.id));
    }
    span.record("reason", decision.reason.as_str());
    span.record("uncached_tokens", decision.uncached_tokens);
    span.record("expected_first_token_ms", (decision.first_token_seconds * 1e3).round());
}

/// The workers of this router.
#[derive(Debug)]
pub(crate) struct Cluster {
    index: KvIndex,
    registry: Mutex<Registry>,
    metrics: RouterMetrics,
    /// Whether a request could be answered now.
    ready: watch::Sender<bool>,
    digest: [u8; 32],
    vocab_size: u32,
    /// Without workers.
    default_shape: Shape,
    /// The longest a request waits for a worker with room.
    max_wait: Duration,
    /// The longest silence of a worker that is there.
    worker_timeout: Duration,
    budget: Mutex<RetryBudget>,
    queue_order: estafette_routing::QueueOrder,
    /// The waiting room's clock counts from here.
    started: Instant,
}

impl Cluster {
    pub(crate) fn new(
        model: &ServedModel,
        settings: &RouterSettings,
        tls: Option<Tls>,
        seed: u64,
    ) -> Self {
        let (admission, now) = (&settings.admission, Instant::now());
        let order = match admission.queue_order {
            QueueOrder::Fcfs => estafette_routing::QueueOrder::Fcfs,
            QueueOrder::ShortestWork => estafette_routing::QueueOrder::ShortestWork,
        };
        let room = WaitingRoom::new(order, admission.max_waiting_requests);
        Self {
            index: KvIndex::new(),
            registry: Mutex::new(Registry::new(room, SplitMix64::new(seed)).with_tls(tls)),
            metrics: RouterMetrics::new(),
            ready: watch::Sender::new(false),
            digest: model.digest,
            vocab_size: u32::try_from(model.tokenizer.vocab_size()).unwrap_or(u32::MAX),
            default_shape: Shape {
                block_size: DEFAULT_BLOCK_SIZE,
                max_model_len: model.context_length,
            },
            max_wait: admission.max_wait,
            worker_timeout: settings.worker_timeout,
            budget: Mutex::new(RetryBudget::new(admission.retry_budget, BUDGET_WINDOW, now)),
            queue_order: order,
            started: now,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn metrics(&self) -> &RouterMetrics {
        &self.metrics
    }

    /// What may still be repaired.
    pub(crate) fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever the cluster becomes able or unable to answer.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// What a request must fit into, as the workers that are there agree.
    pub(crate) fn shape(&self) -> Shape {
        self.lock().shape().unwrap_or(self.default_shape)
    }

    /// A worker joins. It is chosen once its first snapshot is complete.
    ///
    /// # Errors
    /// When it serves another model or computes in another way than those that are there.
    pub(crate) fn join(&self, info: v1::WorkerInfo) -> Result<WorkerKey, Status> {
        let pool =
            info.pool.as_ref().ok_or_else(|| Status::invalid_argument("`pool` is missing"))?;
        if pool.model_digest.as_ref() != self.digest {
            return Err(Status::failed_precondition(
                "it serves another model file than the router: start both with the same `--model`",
            ));
        }
        if pool.vocab_size != self.vocab_size || pool.block_size == 0 {
            return Err(Status::failed_precondition("its vocabulary or block size is impossible"));
        }
        let joined = self.lock().join(info);
        self.update_ready();
        joined
    }

    /// A worker is gone, and whoever followed its state has stopped.
    pub(crate) fn leave(&self, worker: &WorkerKey) {
        self.lock().leave(worker);
        self.index.clear(WorkerSlot(worker.slot));
        self.lock().free(worker);
        self.update_ready();
    }

    /// Whether it is still there, and nobody has taken its place.
    pub(crate) fn is_member(&self, worker: &WorkerKey) -> bool {
        self.lock().member(worker).is_some()
    }

    /// The connection for the state stream of a worker that is there.
    pub(crate) fn state_channel(&self, worker: &WorkerKey) -> Option<Channel> {
        self.lock().member(worker).map(|member| member.state_channel.clone())
    }

    /// A worker's state is known from here on.
    pub(crate) fn snapshot(
        &self,
        worker: &WorkerKey,
        hashes: &[BlockHash],
        load: LoadRecord,
        draining: bool,
    ) {
        let slot = WorkerSlot(worker.slot);
        self.index.clear(slot);
        self.index.insert(slot, hashes);
        self.heard(worker, &load, draining);
    }

    /// A worker's state has changed.
    pub(crate) fn delta(
        &self,
        worker: &WorkerKey,
        events: &[KvEvent],
        load: LoadRecord,
        draining: bool,
    ) {
        self.index.apply(WorkerSlot(worker.slot), events);
        self.heard(worker, &load, draining);
    }

    fn heard(&self, worker: &WorkerKey, load: &LoadRecord, draining: bool) {
        let changed = self.lock().heard(worker, load, draining);
        if changed {
            self.update_ready();
        }
    }

    /// A worker's queue was full although its load record did not say so.
    pub(crate) fn refused(&self, worker: &WorkerKey) {
        self.lock().refused(worker);
    }

    /// A worker's state is not known any more.
    pub(crate) fn unsynced(&self, worker: &WorkerKey) {
        self.lock().unsynced(worker);
        self.index.clear(WorkerSlot(worker.slot));
        self.update_ready();
    }

    /// Workers that can be chosen.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// The longest that a request waits.
    pub(crate) fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// Waits a moment, or longer when nobody is there who could answer; false when that is not before `until`.
    pub(crate) async fn changed(&self, until: Instant) -> bool {
        tokio::time::sleep(LOOK_AGAIN).await;
        let mut ready = self.ready.subscribe();
        timeout_at(until.into(), ready.wait_for(|ready| *ready)).await.is_ok()
            && Instant::now() < until
    }

    fn update_ready(&self) {
        // Counted inside, so that of two who come at once the later one has the last word.
        self.ready.send_if_modified(|was| {
            let ready = self.counts().decode > 0;
            std::mem::replace(was, ready) != ready
        });
    }

    /// The request as the choice sees it.
    fn wanted(&self, request: &AnswerRequest) -> Request {
        Request {
            prompt_tokens: request.given_tokens(),
            max_tokens: request.limits.max_tokens.saturating_sub(request.output.len() as u32),
            block_size: request.prompt.block_size,
            session: request.session,
        }
    }

    /// Chooses where `request` goes and books it there, if it is its turn: see [`Registry::may_choose`].
    fn choose(
        &self,
        request: &AnswerRequest,
        excluded: &Excluded,
        place: Option<&Place>,
    ) -> Result<Chosen<'_>, NoChoice> {
        // Whoever has to wait would look up for nothing.
        if !self.lock().may_choose(place) {
            return Err(NoChoice::Saturated);
        }
        // Looked up at each attempt: what was cached when the request came may be gone.
        let matches = self.index.matches(&request.hashes);
        let wanted = self.wanted(request);
        let mut registry = self.lock();
        if !registry.may_choose(place) {
            return Err(NoChoice::Saturated);
        }
        let decision = registry.choose(&wanted, &matches, excluded)?;
        let transfer = TransferId(registry.rng.next_u128());
        let (prefill, decode) = match decision.choice {
            Choice::Aggregated { decode } => (None, registry.book(decode, &wanted, &matches, true)),
            Choice::Disaggregated { prefill, decode } => (
                Some(registry.book(prefill, &wanted, &matches, true)),
                registry.book(decode, &wanted, &matches, false),
            ),
        };
        let numerics_id = registry.numerics_id();
        drop(registry);
        RouterMetrics::routed(if prefill.is_some() { "disaggregated" } else { "aggregated" });
        let target = |(receipt, Address { worker, channel, kv, lost }): (Receipt, Address)| {
            let taken_in = AtomicBool::new(false);
            let booked = Booked { cluster: self, receipt: Some(receipt), taken_in };
            Target { worker, channel, kv, booked, lost }
        };
        // The choice is among members, under the same lock.
        let target = |booked: Option<_>| booked.map(target).ok_or(NoChoice::NoWorker);
        let (prefill, decode) = (prefill.map(target).transpose()?, target(decode)?);
        note(&decision, prefill.as_ref(), &decode);
        Ok(Chosen { prefill, decode, transfer, numerics_id })
    }

    /// The decision that `request` would get now, with every term.
    pub(crate) fn explain(&self, request: &AnswerRequest) -> Explained {
        let matches = self.index.matches(&request.hashes);
        self.lock().explain(&self.wanted(request), &matches)
    }

    /// The workers' own numbers, in the Prometheus text format.
    pub(crate) fn worker_metrics(&self) -> String {
        view::metrics(&self.lock())
    }
}

#[cfg(test)]
pub(crate) mod tests;
