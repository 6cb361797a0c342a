//! One worker process, from settings to exit.

use crate::command::{Command, CommandSender, put};
use crate::engine_loop::{EngineLoop, HandOff};
use crate::error::WorkerError;
use crate::identity::Identity;
use crate::join::keep_joined;
use crate::pulse::Pulse;
use crate::service::WorkerService;
use crate::setup::{Setup, setup};
use estafette_config::{Transport, WorkerSettings, advertised, process_seed};
use estafette_engine::{BLOCK_SIZE, KvPool};
use estafette_proto::v1;
use estafette_security::{Tls, incoming};
use estafette_types::{Incarnation, Role, SplitMix64, WorkerId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;

/// Commands that may wait for the engine's thread between two steps.
const COMMAND_QUEUE: usize = 4096;

/// Legs and subscriptions on one connection. Beyond the usual limit of 200 they would wait unseen: it is the
/// engine's queue that refuses.
const STREAMS_MAX: u32 = 4096;
/// Routers are few; each has two connections.
const CONNECTIONS_MAX: usize = 256;
/// A router that does not answer a ping for this long is gone, and nobody wants its legs any more.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What is left after the grace must end within this time, step by step.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a hand-off is built on.
#[derive(Debug)]
pub struct Foundation<T> {
    /// The pool; `None` when the backend has none that can be shared.
    pub pool: Option<KvPool>,
    /// Layers that travel together.
    pub layers_per_group: u32,
    /// The name of the worker.
    pub id: WorkerId,
    /// Of this process.
    pub incarnation: Incarnation,
    /// Of the model file: see `GgufFile::digest`.
    pub model_digest: [u8; 32],
    /// Equal ids mean bit-identical tokens.
    pub numerics_id: String,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// How KV may travel.
    pub transport: Transport,
    /// Where KV arrives.
    pub kv_listen: SocketAddr,
    /// Host under which others reach this worker; `None`: the address on which it listens.
    pub advertise: Option<String>,
    /// Certificates between the processes.
    pub tls: Option<Tls>,
    /// Where the transport reports.
    pub commands: CommandSender<T>,
}

/// Runs a worker until `stop` turns true and what runs has ended. `build` makes its hand-off and says where KV
/// arrives.
///
/// # Errors
/// When it cannot start, the router refuses it, or the engine breaks.
pub async fn run<H, B, F>(
    settings: WorkerSettings,
    mut stop: watch::Receiver<bool>,
    build: B,
) -> Result<(), WorkerError>
where
    H: HandOff,
    B: FnOnce(Foundation<H::Event>) -> F,
    F: Future<Output = Result<(H, Option<v1::KvEndpoint>), WorkerError>>,
{
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    // Prefill workers write into the pools of decode workers, nobody into theirs.
    let shared_pool = H::ROLE == Role::Decode && settings.transport != Transport::Tcp;
    let (model, engine) = (settings.model.clone(), settings.engine.clone());
    let loading = tokio::task::spawn_blocking(move || setup(&model, &engine, shared_pool));
    let setup = tokio::select! {
        loaded = loading => loaded.map_err(|_| WorkerError::EngineLost)??,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let listener = listen(settings.listen).await?;
    let address = listener.local_addr().map_err(|e| WorkerError::Start(e.to_string()))?;
    if tls.is_none() && !settings.listen.ip().is_loopback() {
        tracing::warn!(listen = %settings.listen, "no --tls-ca: whoever reaches this address can use this worker");
    }
    let (commands, queue) = sync_channel(COMMAND_QUEUE);
    let foundation = foundation::<H>(&settings, &setup, commands.clone(), tls.clone());
    let mut identity = identity::<H>(&settings, &setup, &foundation, address);
    let (hand_off, kv) = build(foundation).await?;
    identity.kv = kv;

    let pulse = Pulse::new(Instant::now());
    let engine_loop = EngineLoop::new(setup.engine, hand_off, queue, pulse.clone(), setup.seed);
    let engine_done = spawn_engine(engine_loop)?;
    let (drain, drains) = mpsc::channel(1);
    let service = WorkerService::new(Arc::new(identity), commands, pulse, drain);
    let connections = Connections { listener, tls };
    serve(service, connections, engine_done, settings, Wishes { stop, drains }).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, WorkerError> {
    TcpListener::bind(address).await.map_err(|source| WorkerError::Listen {
        what: "gRPC",
        address,
        source,
    })
}

fn foundation<H: HandOff>(
    settings: &WorkerSettings,
    setup: &Setup,
    commands: CommandSender<H::Event>,
    tls: Option<Tls>,
) -> Foundation<H::Event> {
    // Mixed, since names show its upper half.
    let incarnation = SplitMix64::new(process_seed()).next_u64();
    let drawn = || WorkerId(format!("{}-{:08x}", H::ROLE, incarnation >> 32));
    Foundation {
        pool: setup.engine.executor().kv_pool().cloned(),
        layers_per_group: settings.engine.layers_per_group,
        id: settings.id.clone().unwrap_or_else(drawn),
        incarnation: Incarnation(incarnation),
        model_digest: setup.model_digest,
        numerics_id: setup.engine.executor().numerics_id(),
        vocab_size: setup.vocab_size,
        transport: settings.transport,
        kv_listen: settings.kv_listen,
        advertise: settings.advertise.clone(),
        tls,
        commands,
    }
}

fn identity<H: HandOff>(
    settings: &WorkerSettings,
    setup: &Setup,
    foundation: &Foundation<H::Event>,
    address: SocketAddr,
) -> Identity {
    Identity {
        id: foundation.id.clone(),
        incarnation: foundation.incarnation,
        role: H::ROLE,
        address: advertised(settings.advertise.as_deref(), address),
        kv: None,
        model_digest: setup.model_digest.to_vec(),
        numerics_id: foundation.numerics_id.clone(),
        block_size: BLOCK_SIZE,
        max_model_len: setup.max_model_len,
        vocab_size: setup.vocab_size,
        max_num_seqs: settings.engine.max_num_seqs,
        max_waiting: settings.engine.max_waiting,
        max_num_batched_tokens: settings.engine.max_num_batched_tokens,
    }
}

/// Starts the engine's thread; the receiver hears of its end, whatever ended it.
fn spawn_engine<H: HandOff>(engine: EngineLoop<H>) -> Result<oneshot::Receiver<()>, WorkerError> {
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            engine.run();
            // Unsent when the loop panics; the receiver notices that too.
            let _ = done.send(());
        })
        .map_err(|e| WorkerError::Start(format!("no thread for the engine: {e}")))?;
    Ok(ended)
}

/// Ends the engine's thread when the worker's future is dropped before its end.
struct StopOnDrop<T>(CommandSender<T>);

impl<T> Drop for StopOnDrop<T> {
    fn drop(&mut self) {
        // Fails when the thread has ended already, which is what is wanted, and when the queue is full; then the thread ends
        // when the last sender of commands is gone.
        drop(self.0.try_send(Command::Stop));
    }
}

/// Who may tell a worker to leave.
struct Wishes {
    /// The process.
    stop: watch::Receiver<bool>,
    /// An operator, through the router.
    drains: mpsc::Receiver<Duration>,
}

/// Where others come in, and who may.
struct Connections {
    listener: TcpListener,
    tls: Option<Tls>,
}

/// Listens, stays joined, and drains when told to.
async fn serve<T: Send + 'static>(
    service: WorkerService<T>,
    connections: Connections,
    mut engine_done: oneshot::Receiver<()>,
    settings: WorkerSettings,
    mut wishes: Wishes,
) -> Result<(), WorkerError> {
    let (identity, commands) = (service.identity(), service.commands());
    let _stop_engine = StopOnDrop(commands.clone());
    let (leave, left) = watch::channel(false);
    let tls = connections.tls.clone();
    let spawned = tokio::spawn(serve_grpc(service, connections, left.clone()));
    let mut server = AbortOnDropHandle::new(spawned);
    let joined = tokio::spawn(keep_joined(identity, settings.router.clone(), tls, left));
    let mut membership = AbortOnDropHandle::new(joined);
    let outcome = tokio::select! {
        _ = wishes.stop.wait_for(|stop| *stop) => Ok(settings.drain_timeout),
        Some(grace) = wishes.drains.recv() => Ok(grace),
        _ = &mut engine_done => Err(WorkerError::EngineLost),
        _ = &mut server => Err(WorkerError::Start("the gRPC server ended by itself".into())),
        refused = &mut membership => Err(refusal(refused, settings.router)),
    };
    match &outcome {
        Ok(grace) => {
            let over = grace_over(*grace, wishes.stop, settings.drain_timeout);
            drain(&commands, engine_done, over).await;
        }
        Err(WorkerError::EngineLost) => {}
        Err(_) => drain(&commands, engine_done, std::future::ready(())).await,
    }
    let _ = leave.send(true);
    // Every stream has ended with the engine; what is left is to say goodbye.
    drop(tokio::time::timeout(GOODBYE, server).await);
    outcome.map(|_| ())
}

/// Returns at the end of the grace. A signal that comes meanwhile brings its own one, and the shorter one counts.
async fn grace_over(grace: Duration, mut stop: watch::Receiver<bool>, of_signal: Duration) {
    let signalled = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(of_signal).await;
    };
    tokio::select! {
        () = tokio::time::sleep(grace) => {}
        () = signalled => {}
    }
}

fn refusal(
    ended: Result<Result<(), tonic::Status>, tokio::task::JoinError>,
    router: String,
) -> WorkerError {
    match ended {
        Ok(Err(status)) => WorkerError::Refused { router, reason: status.message().to_owned() },
        Ok(Ok(())) | Err(_) => WorkerError::Start("membership ended by itself".into()),
    }
}

async fn serve_grpc<T: Send + 'static>(
    service: WorkerService<T>,
    Connections { listener, tls }: Connections,
    mut leave: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(v1::worker_server::WorkerServer::new(service.clone()))
        .add_service(v1::worker_state_server::WorkerStateServer::new(service))
        .serve_with_incoming_shutdown(incoming(listener, tls, CONNECTIONS_MAX), async move {
            drop(leave.wait_for(|leave| *leave).await);
        })
        .await
}

/// Announces it, lets what runs finish until the grace is over, then lets the rest go on elsewhere.
async fn drain<T>(
    commands: &CommandSender<T>,
    mut engine_done: oneshot::Receiver<()>,
    over: impl Future<Output = ()>,
) {
    tracing::info!("draining");
    let drained = async {
        put(commands, Command::Drain).await;
        drop((&mut engine_done).await);
    };
    tokio::select! {
        biased;
        () = drained => return,
        () = over => tracing::info!("the grace is over: what still runs goes on elsewhere"),
    }
    let stopped = async {
        put(commands, Command::Stop).await;
        drop(engine_done.await);
    };
    if tokio::time::timeout(GOODBYE, stopped).await.is_err() {
        tracing::warn!("the engine did not stop in time");
    }
}
