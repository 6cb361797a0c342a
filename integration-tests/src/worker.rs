//! Whole workers inside the test's process, each with its own runtime, so that one can die alone.

use crate::PATIENCE;
use crate::membership::FakeRouter;
use crate::model::{TINY_BLOCK_BYTES, tiny};
use estafette_config::{BackendKind, EngineSettings, Transport, WorkerSettings};
use estafette_proto::v1;
use estafette_types::{ByteSize, Role, WorkerId};
use estafette_worker::WorkerError;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tonic::transport::{Channel, Endpoint};

/// What a test may want different.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The model's file.
    pub model: PathBuf,
    /// How KV travels.
    pub transport: Transport,
    /// Bytes of the pool.
    pub kv_bytes: u64,
    /// The most rows in one step.
    pub max_num_batched_tokens: u32,
    /// The most sequences that run at once.
    pub max_num_seqs: u32,
    /// The most sequences that wait.
    pub max_waiting: u32,
    /// Layers that travel together.
    pub layers_per_group: u32,
    /// Grace for running sequences.
    pub drain_timeout: Duration,
    /// What runs the model.
    pub backend: BackendKind,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            model: tiny(),
            transport: Transport::Auto,
            kv_bytes: 512 * TINY_BLOCK_BYTES,
            max_num_batched_tokens: 64,
            max_num_seqs: 16,
            max_waiting: 1024,
            layers_per_group: 1,
            drain_timeout: PATIENCE,
            backend: BackendKind::Cpu,
        }
    }
}

impl WorkerOptions {
    /// A pool of so many blocks of the tiny model.
    #[must_use]
    pub fn blocks(self, blocks: u64) -> Self {
        Self { kv_bytes: blocks * TINY_BLOCK_BYTES, ..self }
    }

    /// How KV travels.
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// The most rows in one step.
    #[must_use]
    pub fn chunk(self, max_num_batched_tokens: u32) -> Self {
        Self { max_num_batched_tokens, ..self }
    }

    fn settings(&self, id: String, router: String) -> WorkerSettings {
        let any = "127.0.0.1:0".parse().expect("an address");
        WorkerSettings {
            model: self.model.clone(),
            id: Some(WorkerId(id)),
            listen: any,
            kv_listen: any,
            router,
            advertise: None,
            transport: self.transport,
            drain_timeout: self.drain_timeout,
            tls: None,
            engine: EngineSettings {
                threads: 1,
                kv_memory: ByteSize(self.kv_bytes),
                max_num_batched_tokens: self.max_num_batched_tokens,
                max_num_seqs: self.max_num_seqs,
                max_waiting: self.max_waiting,
                max_model_len: None,
                layers_per_group: self.layers_per_group,
                backend: self.backend,
                mock_step: Duration::ZERO,
                kernel_tier: None,
            },
        }
    }
}

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub struct TestWorker {
    /// What it told the router.
    pub info: v1::WorkerInfo,
    /// To its services.
    pub channel: Channel,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<(), WorkerError>>,
}

impl TestWorker {
    /// Starts a worker and waits until it has joined.
    pub async fn start(role: Role, options: &WorkerOptions) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = format!("{role}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let router = FakeRouter::start().await;
        let settings = options.settings(id.clone(), router.address.to_string());
        let (runtime, stop, mut ended) = spawn(role, settings);
        let info = tokio::select! {
            info = router.joined(&id) => info,
            ended = &mut ended => panic!("the worker ended: {ended:?}"),
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", info.address));
        let channel = endpoint.expect("an address").tcp_nodelay(true).connect_lazy();
        Self { info, channel, runtime: Some(runtime), stop, ended }
    }

    /// Where it takes KV.
    pub fn kv(&self) -> v1::KvEndpoint {
        self.info.kv.clone().expect("a decode worker")
    }

    /// Tells it to drain.
    pub fn drain(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end after [`TestWorker::drain`].
    pub async fn ended(&mut self) -> Result<(), WorkerError> {
        let ended = tokio::time::timeout(PATIENCE, &mut self.ended).await;
        ended.expect("it ends in time").expect("it does not panic")
    }

    /// Whether it has ended by itself or by a drain.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.ended.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Ends it as a crash would: its sockets close, nothing is said.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for TestWorker {
    /// The engine's thread outlives the runtime by a step: waits until it has tidied up, lest the process be faster.
    fn drop(&mut self) {
        self.kill();
        let socket = self.info.kv.as_ref().map(|kv| PathBuf::from(&kv.unix_socket));
        let Some(folder) = socket.as_ref().and_then(|path| path.parent()) else { return };
        let mut patience = 200;
        while folder.is_dir() && patience > 0 && !folder.as_os_str().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
            patience -= 1;
        }
    }
}

type Running = (Runtime, watch::Sender<bool>, oneshot::Receiver<Result<(), WorkerError>>);

fn spawn(role: Role, settings: WorkerSettings) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = oneshot::channel();
    runtime.spawn(async move {
        let result = match role {
            Role::Prefill => estafette_prefill_worker::run(settings, stopped).await,
            Role::Decode => estafette_decode_worker::run(settings, stopped).await,
        };
        let _ = end.send(result);
    });
    (runtime, stop, ended)
}

/// Runs a worker that cannot start, or is refused; why it ended.
pub async fn run_to_its_end(
    role: Role,
    options: &WorkerOptions,
    router: &FakeRouter,
) -> Result<(), WorkerError> {
    let settings = options.settings(format!("{role}-refused"), router.address.to_string());
    let (runtime, _stop, ended) = spawn(role, settings);
    let result = tokio::time::timeout(PATIENCE, ended).await;
    runtime.shutdown_background();
    result.expect("it ends in time").expect("it does not panic")
}
