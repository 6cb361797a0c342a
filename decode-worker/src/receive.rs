//! The decode side of a hand-off: when blocks are granted, adopted, taken back.
//!
//! Grants are given oldest leg first, all blocks of a prompt at once, and never to a younger leg than the
//! sequence that waits to be computed here. So two hand-offs that do not fit the pool together come one after
//! the other: whoever has its blocks depends on nobody who lacks them.

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
    /// Blocks of ended legs that may still be written.
    fences: Vec<(SequenceId, Revocation)>,
    /// Dropped after the receiver.
    _socket: Option<SocketDir>,
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
        receiver.expect(transfer, now + patience)?;
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
                self.fail(id, engine);
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

    /// Ends the hand-off of `id`. Blocks that may still be written are held until they may not.
    fn end(&mut self, id: SequenceId, engine: &mut Engine) {
        let Some(transfer) = self.forget(id) else { return };
        let Some(receiver) = &self.receiver else { return };
        let revocation = receiver.revoke(transfer);
        if !revocation.is_safe() {
            engine.scheduler.hold(id);
            self.fences.push((id, revocation));
        }
    }

    /// The KV does not come: the prompt is computed here, in other blocks when the old ones are not safe yet.
    fn fail(&mut self, id: SequenceId, engine: &mut Engine) {
        self.end(id, engine);
        engine.scheduler.fall_back(id);
    }
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
        // A transfer that is not known here was ended by this side.
        match event {
            ReceiverEvent::GrantRequested { transfer } => {
                if let Some(id) = self.sequences.get(&transfer) {
                    self.asking.insert(*id);
                    self.grant(engine);
                }
            }
            ReceiverEvent::Completed { transfer, first_token } => {
                if let Some(id) = self.sequences.get(&transfer).copied() {
                    let token = first_token.token;
                    if token >= self.vocab_size {
                        tracing::warn!(%transfer, token, "computing a prompt whose first token is none");
                        self.fail(id, engine);
                        return Vec::new();
                    }
                    self.forget(id);
                    return engine.adopt(id, token);
                }
            }
            ReceiverEvent::Failed { transfer, error } => {
                if let Some(id) = self.sequences.get(&transfer).copied() {
                    tracing::warn!(%transfer, %error, "computing a prompt whose hand-off failed");
                    self.fail(id, engine);
                }
            }
        }
        Vec::new()
    }

    fn on_events(&mut self, _events: &[EngineEvent], _engine: &mut Engine) {}

    fn cancelled(&mut self, id: SequenceId, engine: &mut Engine) {
        self.end(id, engine);
    }

    fn is_idle(&self) -> bool {
        self.transfers.is_empty() && self.fences.is_empty()
    }

    fn on_timer(&mut self, engine: &mut Engine) {
        self.fences.retain(|(id, revocation)| {
            let safe = revocation.is_safe();
            if safe {
                engine.scheduler.release_held(*id);
            }
            !safe
        });
        self.grant(engine);
    }

    fn next_timer(&self) -> Option<Duration> {
        (!self.fences.is_empty()).then_some(FENCE_POLL)
    }
}
