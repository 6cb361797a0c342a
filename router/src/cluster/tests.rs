//! A cluster whose workers are words: they join, their records come, and nothing answers at their addresses.

use super::registry::tests::{info, load};
use super::*;
use crate::request::Prompt;
use estafette_routing::QueueOrder;
use estafette_types::{ErrorCode, HashSeed, Limits, RequestId, SamplingParams};
use tokio::task::JoinHandle;

mod lessons;

const PATIENCE: Duration = Duration::from_secs(60);

/// Room for two.
pub(crate) fn cluster() -> Arc<Cluster> {
    let room = WaitingRoom::new(QueueOrder::Fcfs, 2);
    Arc::new(Cluster {
        index: KvIndex::new(),
        registry: Mutex::new(Registry::new(room, SplitMix64::new(1))),
        metrics: RouterMetrics::new(),
        ready: watch::Sender::new(false),
        digest: [0; 32],
        vocab_size: 0,
        default_shape: Shape { block_size: 16, max_model_len: 1000 },
        max_wait: PATIENCE,
        worker_timeout: Duration::from_secs(2),
        budget: Mutex::new(RetryBudget::new(1, PATIENCE, Instant::now())),
        queue_order: QueueOrder::Fcfs,
        started: Instant::now(),
    })
}

/// A decode worker with so many blocks and room for one in its queue.
pub(crate) fn join(cluster: &Cluster, id: &str, blocks: u64) -> WorkerKey {
    let mut info = info(id, 1, v1::Role::Decode);
    info.max_waiting = 1;
    let pool = info.pool.as_mut().unwrap();
    (pool.model_digest, pool.vocab_size) = (vec![0; 32].into(), 0);
    let worker = cluster.join(info).unwrap();
    hear(cluster, &worker, blocks, 0);
    worker
}

pub(super) fn hear(cluster: &Cluster, worker: &WorkerKey, blocks: u64, waiting_sequences: u64) {
    let load =
        LoadRecord { waiting_sequences, total_blocks: blocks, free_blocks: blocks, ..load() };
    cluster.delta(worker, &[], load, false);
}

pub(crate) fn request(prompt_tokens: usize) -> AnswerRequest {
    let tokens = vec![0; prompt_tokens];
    let (hashes, seed): (Arc<[_]>, _) = (Vec::new().into(), HashSeed::new(b"model", "", ""));
    let prompt =
        Prompt { tokens: tokens.into(), hashes: Arc::clone(&hashes), block_size: 16, seed };
    AnswerRequest {
        id: RequestId(0),
        prompt,
        output: Vec::new(),
        hashes,
        params: SamplingParams::default(),
        limits: Limits { max_tokens: 1, stop_token_ids: Vec::new(), ignore_eos: false },
        stop: Vec::new(),
        skip_special_tokens: true,
        priority: 0,
        session: None,
        arrived: Instant::now(),
        deadline: Instant::now() + PATIENCE,
    }
}

/// The slot of the worker that it was sent to; its leg is over at once.
pub(super) type Sent = JoinHandle<Result<u32, ErrorCode>>;

/// Starts to place a request and returns when it waits, or has been sent.
pub(super) async fn place(
    cluster: &Arc<Cluster>,
    request: AnswerRequest,
    excluded: Excluded,
    begun: bool,
) -> Sent {
    let (before, cluster) = (cluster.lock().room.len(), Arc::clone(cluster));
    let placing = Arc::clone(&cluster);
    let sent = tokio::spawn(async move {
        let chosen = placing.place(&request, &excluded, begun).await;
        chosen.map(|chosen| chosen.decode.worker.slot).map_err(|error| error.code)
    });
    while !sent.is_finished() && cluster.lock().room.len() == before {
        tokio::task::yield_now().await;
    }
    sent
}

pub(super) async fn slot(sent: Sent) -> Result<u32, ErrorCode> {
    tokio::time::timeout(PATIENCE, sent).await.expect("it is sent in time").unwrap()
}

/// Whether the router believes that the worker holds a block.
pub(crate) fn holds(cluster: &Cluster, worker: &WorkerKey, hash: BlockHash) -> bool {
    cluster.index.matches(&[hash]).blocks(WorkerSlot(worker.slot)) > 0
}
