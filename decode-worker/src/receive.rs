//! The decode side of a hand-off: when blocks are granted, adopted, taken back.
//!
//! Grants are given oldest leg first, all blocks of a prompt at once, and never to a younger leg than the
//! sequence that waits to be computed here. So two hand-offs that do not fit the pool together come one after
//! the other: whoever has its blocks depends on nobody who lacks them.
//!
//! What a hand-off has brought before it failed is not lost: leading blocks that are verified go into the prefix
//! cache once nobody can write to them, and the prompt is computed from there on.

use crate::socket_dir::SocketDir;
use estafette_config::{Transport, advertised, runtime_dir};
use estafette_engine::{Engine, EngineEvent, KvPool, StepObserver};
use estafette_kv_transfer::{
    HandoffError, HandoffLayout, Receiver, ReceiverEvent, ReceiverLimits, Revocation,
};
use estafette_proto::v1;
use estafette_scheduler::{Mode, Reservation, ReserveError, StepPlan};
use estafette_types::{BlockId, Role, SequenceId, TransferId};
use estafette_worker::{Foundation, HandOff, Leg, WorkerError, forward};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A prompt whose KV has not come within this time, or within half of its leg's time, is computed here.
const HANDOFF_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look whether the writer of a revoked grant has let go.
const FENCE_POLL: Duration = Duration::from_millis(10);
/// How long a sequence whose verified blocks may still be written waits for them, before it is computed from its beginning.
const FENCE_PATIENCE: Duration = Duration::from_millis(50);

/// The hand-offs of one decode worker.
#[derive(Debug)]
pub(crate) struct Receive {
    /// `None` when the backend has no pool that others could write to.
    receiver: Option<Receiver>,
    /// Token ids are below this; a peer's word for it is not taken.
    vocab_size: u32,
    /// Legs that wait for their KV, both ways.
    transfers: BTreeMap<SequenceId, TransferId>,
    sequences: BTreeMap<TransferId, SequenceId>,
    /// Those whose sender waits for a grant.
    asking: BTreeSet<SequenceId>,
    fences: Vec<Fence>,
    /// Dropped after the receiver.
    _socket: Option<SocketDir>,
}

/// Blocks of a leg that is over, which may still be written.
#[derive(Debug)]
struct Fence {
    id: SequenceId,
    revocation: Revocation,
    /// The sequence goes on here when the fence is there, or then.
    waits_until: Option<Instant>,
}

/// Opens the receiver.
pub(crate) async fn build(
    mut foundation: Foundation<ReceiverEvent>,
) -> Result<(Receive, Option<v1::KvEndpoint>), WorkerError> {
    let Some(pool) = foundation.pool.take() else {
        return Ok((Receive::new(None, foundation.vocab_size, None), None));
    };
    let ((receiver, events), socket) = open(&foundation, pool).await?;
    let path = socket.as_ref().map(SocketDir::socket);
    let endpoint = v1::KvEndpoint {
        worker_id: foundation.id.0,
        incarnation: foundation.incarnation.0,
        tcp: advertised(foundation.advertise.as_deref(), receiver.tcp_address()),
        unix_socket: path.map(|path| path.display().to_string()).unwrap_or_default(),
    };
    let vocab_size = foundation.vocab_size;
    forward(events, foundation.commands);
    Ok((Receive::new(Some(receiver), vocab_size, socket), Some(endpoint)))
}

type Bound = (Receiver, mpsc::Receiver<ReceiverEvent>);

/// Binds the receiver, with a Unix socket unless only TCP is wanted.
async fn open(
    foundation: &Foundation<ReceiverEvent>,
    pool: KvPool,
) -> Result<(Bound, Option<SocketDir>), WorkerError> {
    if foundation.transport != Transport::Tcp {
        match bind_shared(foundation, pool.clone()).await {
            Ok((bound, socket)) => return Ok((bound, Some(socket))),
            Err(error) if foundation.transport == Transport::Shm => {
                return Err(WorkerError::HandOff(format!("no shared memory: {error}")));
            }
            Err(error) => tracing::warn!(%error, "no shared memory, only tcp"),
        }
    }
    let address = foundation.kv_listen;
    let listen_error = |source| WorkerError::Listen { what: "KV blocks", address, source };
    Ok((bind(foundation, pool, None).await.map_err(listen_error)?, None))
}

async fn bind_shared(
    foundation: &Foundation<ReceiverEvent>,
    pool: KvPool,
) -> io::Result<(Bound, SocketDir)> {
    let name = format!("estafette-{}", foundation.incarnation);
    let socket = SocketDir::create(&runtime_dir(), &name)?;
    Ok((bind(foundation, pool, Some(&socket.socket())).await?, socket))
}

async fn bind(
    foundation: &Foundation<ReceiverEvent>,
    pool: KvPool,
    path: Option<&Path>,
) -> io::Result<Bound> {
    let layout = HandoffLayout {
        kv: pool.layout,
        layers_per_group: foundation.layers_per_group,
        model_digest: foundation.model_digest.to_vec(),
        numerics_id: foundation.numerics_id.clone(),
    };
    let (address, limits) = (foundation.kv_listen, ReceiverLimits::default());
    let (incarnation, tls) = (foundation.incarnation, foundation.tls.clone());
    Receiver::bind(pool.memory, layout, address, path, incarnation, limits, tls).await
}

impl Receive {
    fn new(receiver: Option<Receiver>, vocab_size: u32, socket: Option<SocketDir>) -> Self {
        Self {
            receiver,
            vocab_size,
            transfers: BTreeMap::new(),
            sequences: BTreeMap::new(),
            asking: BTreeSet::new(),
            fences: Vec::new(),
            _socket: socket,
        }
    }

    fn expect(
        &mut self,
        id: SequenceId,
        transfer: TransferId,
        deadline: Instant,
    ) -> Result<(), HandoffError> {
        let refused = |why: &str| Err(HandoffError::Refused(why.into()));
        let Some(receiver) = &self.receiver else { return refused("this backend takes no KV") };
        if self.sequences.contains_key(&transfer) {
            return refused("another leg waits for this transfer");
        }
        let now = Instant::now();
        let patience = HANDOFF_TIMEOUT.min(deadline.saturating_duration_since(now) / 2);
        receiver.expect(transfer, id, now + patience)?;
        self.transfers.insert(id, transfer);
        self.sequences.insert(transfer, id);
        Ok(())
    }

    /// Gives every grant that there is room for.
    fn grant(&mut self, engine: &mut Engine) {
        while let Some(&id) = self.asking.first() {
            if engine.scheduler.next_waiting().is_some_and(|waiting| waiting < id) {
                return;
            }
            let reserved = engine.scheduler.reserve(id);
            if matches!(
                reserved,
                Err(ReserveError::OutOfBlocks { .. } | ReserveError::BatchFull { .. })
            ) {
                return;
            }
            self.asking.remove(&id);
            if let Ok(reservation) = reserved
                && let Err(error) = self.grant_blocks(id, &reservation)
            {
                tracing::debug!(sequence = id.0, %error, "no longer wanted, or not valid");
                self.fail(id, 0, engine);
            }
        }
    }

    fn grant_blocks(&self, id: SequenceId, reservation: &Reservation) -> Result<(), HandoffError> {
        let gone = HandoffError::Aborted;
        let (Some(receiver), Some(transfer)) = (&self.receiver, self.transfers.get(&id)) else {
            return Err(gone);
        };
        let lacking: Vec<(u32, BlockId)> =
            (0..).zip(reservation.table.iter().copied()).skip(reservation.cached_blocks).collect();
        receiver.grant(*transfer, &lacking)
    }

    fn forget(&mut self, id: SequenceId) -> Option<TransferId> {
        let transfer = self.transfers.remove(&id)?;
        self.sequences.remove(&transfer);
        self.asking.remove(&id);
        Some(transfer)
    }

    /// The sequence that an event is about, while it waits for this very transfer.
    fn waiting(&self, id: SequenceId, transfer: TransferId) -> Option<SequenceId> {
        (self.transfers.get(&id) == Some(&transfer)).then_some(id)
    }

    /// Ends the hand-off of `id`, of whose blocks the first `verified` are known to be right. They are kept at once when
    /// nobody can write to them; otherwise all are held until then, and the fence is returned.
    fn end(&mut self, id: SequenceId, verified: u32, engine: &mut Engine) -> Option<Ended> {
        let transfer = self.forget(id)?;
        let revocation = self.receiver.as_ref()?.revoke(transfer);
        let verified = verified.max(revocation.verified_blocks()) as usize;
        if revocation.is_safe() {
            engine.scheduler.keep_verified(id, verified);
            return None;
        }
        engine.scheduler.hold(id, verified);
        Some(Ended { revocation, verified })
    }

    /// The KV does not come, or not all of it: the rest of the prompt is computed here.
    fn fail(&mut self, id: SequenceId, verified: u32, engine: &mut Engine) {
        let Some(Ended { revocation, verified }) = self.end(id, verified, engine) else {
            return engine.scheduler.fall_back(id);
        };
        // A writer that lives answers within a round trip, which costs less than the verified blocks.
        let waits_until = (verified > 0).then(|| Instant::now() + FENCE_PATIENCE);
        if waits_until.is_none() {
            engine.scheduler.fall_back(id);
        }
        self.fences.push(Fence { id, revocation, waits_until });
    }
}

/// A hand-off that is over but not fenced.
struct Ended {
    revocation: Revocation,
    verified: usize,
}

impl StepObserver for Receive {
    fn planned(&mut self, _plan: &StepPlan) {}
    fn layer_done(&mut self, _plan: &StepPlan, _layer: usize) {}
}

impl HandOff for Receive {
    type Event = ReceiverEvent;
    const ROLE: Role = Role::Decode;

    fn mode(&self, leg: &Leg) -> Mode {
        if matches!(leg, Leg::Decode { .. }) { Mode::Remote } else { Mode::Local }
    }

    fn started(&mut self, id: SequenceId, leg: &Leg, deadline: Instant, engine: &mut Engine) {
        let Leg::Decode { transfer } = leg else { return };
        if let Err(error) = self.expect(id, *transfer, deadline) {
            tracing::warn!(%transfer, %error, "computing a prompt that was to be handed over");
            engine.scheduler.fall_back(id);
        }
    }

    fn on_transport(&mut self, event: ReceiverEvent, engine: &mut Engine) -> Vec<EngineEvent> {
        // An event of a leg that is not known here is of one that this side has ended.
        match event {
            ReceiverEvent::GrantRequested { transfer, sequence } => {
                if let Some(id) = self.waiting(sequence, transfer) {
                    self.asking.insert(id);
                    self.grant(engine);
                }
            }
            ReceiverEvent::Completed { transfer, sequence, first_token } => {
                if let Some(id) = self.waiting(sequence, transfer) {
                    let token = first_token.token;
                    if token >= self.vocab_size {
                        tracing::warn!(%transfer, token, "computing a prompt whose first token is none");
                        self.fail(id, 0, engine);
                        return Vec::new();
                    }
                    self.forget(id);
                    return engine.adopt(id, token);
                }
            }
            ReceiverEvent::Failed { transfer, sequence, error, verified_blocks } => {
                if let Some(id) = self.waiting(sequence, transfer) {
                    tracing::warn!(%transfer, %error, verified_blocks, "computing what a failed hand-off did not bring");
                    self.fail(id, verified_blocks, engine);
                }
            }
        }
        Vec::new()
    }

    fn on_events(&mut self, _events: &[EngineEvent], _engine: &mut Engine) {}

    fn cancelled(&mut self, id: SequenceId, engine: &mut Engine) {
        if let Some(Ended { revocation, .. }) = self.end(id, 0, engine) {
            self.fences.push(Fence { id, revocation, waits_until: None });
        }
    }

    fn is_idle(&self) -> bool {
        self.transfers.is_empty() && self.fences.is_empty()
    }

    fn on_timer(&mut self, engine: &mut Engine) {
        let now = Instant::now();
        self.fences.retain_mut(|Fence { id, revocation, waits_until }| {
            let safe = revocation.is_safe();
            if safe {
                engine.scheduler.release_held(*id);
            }
            if let Some(at) = *waits_until
                && (safe || at <= now)
            {
                *waits_until = None;
                engine.scheduler.fall_back(*id);
            }
            !safe
        });
        self.grant(engine);
    }

    fn next_timer(&self) -> Option<Duration> {
        (!self.fences.is_empty()).then_some(FENCE_POLL)
    }
}
