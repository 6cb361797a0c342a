//! The sending side's front: what the engine thread calls. Sockets are in `connection`.

use crate::connection::{Settings, Start, run};
use crate::{FaultPlan, FirstToken, HandoffError, HandoffLayout, PushStats};
use estafette_kernels::KvMemory;
use estafette_proto::v1::KvEndpoint;
use estafette_security::Tls;
use estafette_types::{BlockId, Incarnation, TransferId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

/// Which ways into a decode worker's pool may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// Shared memory where the decode worker offers it and is on this host, else TCP.
    #[default]
    Auto,
    /// Only TCP.
    Tcp,
    /// Only shared memory.
    Shm,
}

/// Bounds of the pusher.
#[derive(Clone, Debug)]
pub struct PusherLimits {
    /// Transfers whose outcome has not been read.
    pub transfers_max: usize,
    /// How long connecting and greeting may take.
    pub connect_timeout: Duration,
    /// How long a peer may take to accept a frame.
    pub io_timeout: Duration,
    /// Bytes of one part, except that a single unit may be larger.
    pub part_bytes: usize,
    /// Which transports may be used.
    pub transport: TransportChoice,
    /// With it TCP connections are encrypted, and go only to those who show a certificate of the cluster.
    pub tls: Option<Tls>,
    /// Faults to inject into every connection; for tests.
    pub faults: Option<FaultPlan>,
}

impl Default for PusherLimits {
    fn default() -> Self {
        Self {
            transfers_max: 1024,
            connect_timeout: Duration::from_secs(3),
            io_timeout: Duration::from_secs(10),
            part_bytes: 1 << 20,
            transport: TransportChoice::Auto,
            tls: None,
            faults: None,
        }
    }
}

/// A hand-off to start.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Minted by the router.
    pub transfer: TransferId,
    /// The decode worker.
    pub endpoint: KvEndpoint,
    /// Every block of the prompt in logical order; pinned until the outcome is there.
    pub table: Vec<BlockId>,
    /// When to give up.
    pub deadline: Instant,
}

/// The end of a transfer: from now on its source blocks are not read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOutcome {
    /// Which.
    pub transfer: TransferId,
    /// How it went.
    pub result: Result<PushStats, HandoffError>,
}

/// As many transfers as allowed are running, or the pusher has been shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many hand-offs are running")]
pub struct PusherFull;

/// Pushes a prefill worker's blocks into the pools of decode workers. One connection per decode worker and
/// incarnation, made when first needed. The calls do not block and may come from any thread.
#[derive(Debug)]
pub struct Pusher {
    settings: Arc<Settings>,
    runtime: Handle,
    connections: Mutex<BTreeMap<(String, u64), Connection>>,
    outcomes: mpsc::Sender<PushOutcome>,
}

impl Pusher {
    /// Must be called inside a tokio runtime, whose tasks do the sending. Every started transfer puts
    /// exactly one outcome into the returned queue.
    pub fn new(
        memory: Arc<KvMemory>,
        layout: HandoffLayout,
        incarnation: Incarnation,
        limits: PusherLimits,
    ) -> (Self, mpsc::Receiver<PushOutcome>) {
        let (outcomes, queue) = mpsc::channel(limits.transfers_max.max(1));
        let settings = Arc::new(Settings { memory, layout, incarnation, limits });
        let connections = Mutex::new(BTreeMap::new());
        (Self { settings, runtime: Handle::current(), connections, outcomes }, queue)
    }

    /// Starts a hand-off: asks the decode worker for a grant while the prompt is computed.
    ///
    /// # Errors
    /// When too many are running; no outcome follows then.
    pub fn start(&self, request: PushRequest) -> Result<PushHandle, PusherFull> {
        let permit = self.outcomes.clone().try_reserve_owned().map_err(|_| PusherFull)?;
        let PushRequest { transfer, endpoint, table, deadline } = request;
        let key = (endpoint.worker_id.clone(), endpoint.incarnation);
        let slot = Arc::new(Slot::default());
        let start = Start { transfer, table, deadline, slot: slot.clone(), permit };
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|_, connection| !connection.starts.is_closed());
        let taken = match connections.get(&key) {
            Some(connection) => connection.starts.try_send(start).map_err(TrySendError::into_inner),
            None => Err(start),
        };
        // There is none yet, or it has broken this very moment.
        if let Err(start) = taken {
            connections.insert(key.clone(), self.connect(endpoint, start)?);
        }
        let wake = connections.get(&key).map(|c| c.wake.clone()).ok_or(PusherFull)?;
        Ok(PushHandle { transfer, slot, wake, over: false })
    }

    /// A new connection that has its first transfer before it can fail.
    fn connect(&self, endpoint: KvEndpoint, first: Start) -> Result<Connection, PusherFull> {
        let (starts, queue) = mpsc::channel(self.settings.limits.transfers_max.max(1));
        starts.try_send(first).map_err(|_| PusherFull)?;
        let wake = Arc::new(Notify::new());
        self.runtime.spawn(run(endpoint, self.settings.clone(), queue, wake.clone()));
        Ok(Connection { starts, wake })
    }
}

#[derive(Debug)]
struct Connection {
    starts: mpsc::Sender<Start>,
    wake: Arc<Notify>,
}

/// What the engine said about a transfer and the connection has not taken yet. Bounded by what there is to
/// say: neighbouring ranges of a group are one entry.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) ready: Vec<(u32, Range<u32>)>,
    pub(crate) commit: Option<FirstToken>,
    pub(crate) aborted: bool,
}

/// Where handle and connection meet.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Said>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> Said {
        std::mem::take(&mut self.lock())
    }
}

/// The engine's side of one transfer. Dropping it before `commit` aborts.
#[derive(Debug)]
pub struct PushHandle {
    transfer: TransferId,
    slot: Arc<Slot>,
    wake: Arc<Notify>,
    over: bool,
}

impl PushHandle {
    /// Which transfer.
    pub fn transfer(&self) -> TransferId {
        self.transfer
    }

    /// The bytes of layer group `group` in these logical blocks are final. Cheap: takes a lock that is
    /// held for nanoseconds and wakes a task.
    pub fn ready(&self, group: u32, blocks: Range<u32>) {
        {
            let mut said = self.slot.lock();
            match said.ready.iter_mut().rev().find(|(of, _)| *of == group) {
                Some((_, last)) if last.end == blocks.start => last.end = blocks.end,
                _ => said.ready.push((group, blocks)),
            }
        }
        self.wake.notify_one();
    }

    /// The prompt is done and everything has been announced. The outcome follows.
    pub fn commit(mut self, first_token: FirstToken) {
        self.slot.lock().commit = Some(first_token);
        self.over = true;
        self.wake.notify_one();
    }

    /// Gives up. The outcome follows.
    pub fn abort(self) {
        drop(self);
    }
}

impl Drop for PushHandle {
    fn drop(&mut self) {
        if !self.over {
            self.slot.lock().aborted = true;
            self.wake.notify_one();
        }
    }
}
