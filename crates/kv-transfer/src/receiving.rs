//! The receiving side as a pure state machine: all transfers of all connections.
//!
//! ```text
//! expected/asking ─▶ asked ─grant▶ granted ─part▶ filling ─last part and commit▶ adopted
//!                                     └── abort, expiry, error ──▶ revoking ─▶ free
//! ```
//! Where the receiver itself stores the bytes (TCP) revoking ends at once: the [`Gate`] is shut and later
//! parts are read and thrown away. Where the sender stores them (shared memory) it ends with the sender's
//! last word on the transfer, or with the end of its connection.

use crate::bitmap::Bitmap;
use crate::message::{FirstToken, Message, Part, RUNS_MAX};
use crate::runs::{Destinations, coalesce};
use crate::sending::unit_index;
use crate::{HandoffError, HandoffLayout};
use estafette_types::{BlockId, TransferId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A connection of the receiver.
pub(crate) type ConnId = u64;

/// What the engine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiverEvent {
    /// A sender wants to push an expected transfer: answer with `grant` or `refuse`.
    GrantRequested {
        /// Which.
        transfer: TransferId,
    },
    /// Every granted unit is in the pool and verified; nobody writes to the blocks any more.
    Completed {
        /// Which.
        transfer: TransferId,
        /// What the prefill worker sampled.
        first_token: FirstToken,
    },
    /// The transfer is dead. Its blocks may be reused when `revoke` says so.
    Failed {
        /// Which.
        transfer: TransferId,
        /// Why.
        error: HandoffError,
    },
}

/// Bounds of the receiver.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverLimits {
    /// Transfers that are expected or running at once.
    pub transfers_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// How long a push waits for its decode leg.
    pub unknown_wait: Duration,
    /// How long a connection may take to finish a frame that it began, or to take one from us.
    pub io_timeout: Duration,
    /// Bytes of parts that a sender may have unacknowledged.
    pub credit_bytes: u64,
}

impl Default for ReceiverLimits {
    fn default() -> Self {
        Self {
            transfers_max: 1024,
            connections_max: 256,
            unknown_wait: Duration::from_secs(5),
            io_timeout: Duration::from_secs(10),
            credit_bytes: 16 << 20,
        }
    }
}

/// Open while the transfer's blocks may be written. Whoever stores into them or reads them for a checksum
/// holds the gate; shutting it therefore waits for the store that is under way and forbids the next.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<bool>);

impl Gate {
    pub(crate) fn open() -> Self {
        Self(Mutex::new(true))
    }

    /// `None` once it is shut.
    pub(crate) fn enter(&self) -> Option<MutexGuard<'_, bool>> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.then_some(guard)
    }

    fn shut(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum ReceiveAction {
    Send(ConnId, Message),
    Event(ReceiverEvent),
    /// No one can write to the blocks of a revoked transfer any more.
    Fenced(TransferId),
}

/// Where the units of a part belong.
#[derive(Debug)]
pub(crate) struct Placement {
    /// Of the transfer; `None` when it is not live and everything is thrown away.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Per unit: the block to store it in, or nothing when it is not wanted.
    pub(crate) to: Vec<Option<BlockId>>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    conn: ConnId,
    blocks: u32,
    one_sided: bool,
}

#[derive(Debug)]
struct Granted {
    peer: Peer,
    epoch: u64,
    to: Destinations,
    units: usize,
    counted: Bitmap,
    gate: Arc<Gate>,
    commit: Option<FirstToken>,
}

#[derive(Debug)]
enum Phase {
    /// The decode leg is here, the push is not.
    Expected,
    /// The push is here, the decode leg is not.
    Early(Peer),
    /// Both are here; the engine has been asked.
    Asked(Peer),
    /// Units may come.
    Filling(Granted),
    /// Dead, but the sender may still store.
    Revoking { conn: ConnId, epoch: u64 },
}

#[derive(Debug)]
struct Incoming {
    phase: Phase,
    deadline: Instant,
}

/// All transfers of the receiver.
#[derive(Debug)]
pub(crate) struct Receiving {
    layout: HandoffLayout,
    limits: ReceiverLimits,
    epoch: u64,
    transfers: BTreeMap<TransferId, Incoming>,
    actions: VecDeque<ReceiveAction>,
}

impl Receiving {
    pub(crate) fn new(layout: HandoffLayout, limits: ReceiverLimits) -> Self {
        Self { layout, limits, epoch: 0, transfers: BTreeMap::new(), actions: VecDeque::new() }
    }

    pub(crate) fn poll_action(&mut self) -> Option<ReceiveAction> {
        self.actions.pop_front()
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let waiting = |i: &&Incoming| !matches!(i.phase, Phase::Revoking { .. });
        self.transfers.values().filter(waiting).map(|i| i.deadline).min()
    }

    /// Whether a writer of `transfer` may still be there although it is dead.
    pub(crate) fn is_revoking(&self, transfer: TransferId) -> bool {
        self.transfers.get(&transfer).is_some_and(|i| matches!(i.phase, Phase::Revoking { .. }))
    }

    /// The decode leg is here.
    ///
    /// # Errors
    /// When as many transfers as allowed are running, or this one is, for another leg.
    pub(crate) fn expect(
        &mut self,
        transfer: TransferId,
        deadline: Instant,
    ) -> Result<(), HandoffError> {
        if let Some(incoming) = self.transfers.get_mut(&transfer) {
            let Phase::Early(peer) = incoming.phase else {
                return Err(HandoffError::Refused("the transfer is already running".into()));
            };
            *incoming = Incoming { phase: Phase::Asked(peer), deadline };
            self.event(ReceiverEvent::GrantRequested { transfer });
            return Ok(());
        }
        if self.transfers.len() >= self.limits.transfers_max {
            return Err(HandoffError::Refused("too many hand-offs are running".into()));
        }
        self.transfers.insert(transfer, Incoming { phase: Phase::Expected, deadline });
        Ok(())
    }

    /// Lets the sender write `blocks`: logical index in the prompt and block of this pool.
    ///
    /// # Errors
    /// When the transfer does not wait for a grant (any more) or the blocks make no sense; then no block
    /// has been granted.
    pub(crate) fn grant(
        &mut self,
        now: Instant,
        transfer: TransferId,
        blocks: &[(u32, BlockId)],
    ) -> Result<(), HandoffError> {
        let to: Destinations = blocks.iter().copied().collect();
        let runs = coalesce(&to);
        let pool = self.layout.kv.num_blocks;
        let (phase, deadline) = match self.transfers.get_mut(&transfer) {
            Some(Incoming { phase, deadline }) => (phase, *deadline),
            None => return Err(HandoffError::Aborted),
        };
        let Phase::Asked(peer) = phase else { return Err(HandoffError::Aborted) };
        let fits = |(logical, block): (&u32, &BlockId)| *logical < peer.blocks && block.0 < pool;
        let physical: BTreeSet<BlockId> = to.values().copied().collect();
        if physical.len() != blocks.len() || runs.len() > RUNS_MAX || !to.iter().all(fits) {
            return Err(HandoffError::Refused("the granted blocks are not valid".into()));
        }
        self.epoch += 1;
        let groups = self.layout.groups() as usize;
        let units = to.len() * groups;
        let granted = Granted {
            peer: *peer,
            epoch: self.epoch,
            counted: Bitmap::new(peer.blocks as usize * groups),
            to,
            units,
            gate: Arc::new(Gate::open()),
            commit: None,
        };
        let ttl = deadline.saturating_duration_since(now);
        let grant = Message::Grant { transfer, epoch: self.epoch, runs, units: units as u32, ttl };
        self.actions.push_back(ReceiveAction::Send(granted.peer.conn, grant));
        *phase = Phase::Filling(granted);
        Ok(())
    }

    /// The engine does not want the transfer (any more). No event follows.
    pub(crate) fn cancel(&mut self, transfer: TransferId, error: &HandoffError) {
        self.end(transfer, error);
    }

    /// A message that carries no units.
    ///
    /// # Errors
    /// When it breaks the protocol; the connection is to be closed.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        conn: ConnId,
        one_sided: bool,
        message: Message,
    ) -> Result<(), HandoffError> {
        match message {
            Message::Push { transfer, blocks, ttl } => {
                self.push(now, transfer, Peer { conn, blocks, one_sided }, ttl);
            }
            Message::Commit { transfer, epoch, first_token } => {
                if let Some(granted) = self.live(conn, transfer, epoch) {
                    granted.commit = Some(first_token);
                    self.complete(transfer);
                }
            }
            Message::Stopped { transfer, epoch, error } => {
                self.stopped(conn, transfer, epoch, error);
            }
            Message::Hello(_)
            | Message::Welcome { .. }
            | Message::Reject(_)
            | Message::Grant { .. }
            | Message::Part(_)
            | Message::Ack { .. }
            | Message::Done { .. }
            | Message::Failed { .. } => {
                return Err(HandoffError::protocol("a message that does not belong here"));
            }
        }
        Ok(())
    }

    /// Where the units of `part` belong: nowhere, when they are not granted or already there.
    ///
    /// # Errors
    /// When there is no such layer group; the connection is to be closed.
    pub(crate) fn place(&mut self, conn: ConnId, part: &Part) -> Result<Placement, HandoffError> {
        let groups = self.layout.groups();
        if part.group >= groups {
            return Err(HandoffError::protocol("a part of an unknown layer group"));
        }
        let blocks = part.first_block..part.first_block + part.checksums.len() as u32;
        let Some(granted) = self.live(conn, part.transfer, part.epoch) else {
            return Ok(Placement { gate: None, to: blocks.map(|_| None).collect() });
        };
        let fresh = |block: u32| {
            let counted = granted.counted.contains(unit_index(block, part.group, groups));
            if counted { None } else { granted.to.get(&block).copied() }
        };
        Ok(Placement { gate: Some(granted.gate.clone()), to: blocks.map(fresh).collect() })
    }

    /// The unit of `part.group` in logical `block` is in its place and has the right checksum.
    pub(crate) fn count(&mut self, conn: ConnId, part: &Part, block: u32) {
        let index = unit_index(block, part.group, self.layout.groups());
        if let Some(granted) = self.live(conn, part.transfer, part.epoch)
            && granted.to.contains_key(&block)
        {
            granted.counted.insert(index);
            self.complete(part.transfer);
        }
    }

    /// A unit has the wrong checksum.
    pub(crate) fn corrupt(&mut self, conn: ConnId, part: &Part, block: u32) {
        if self.live(conn, part.transfer, part.epoch).is_some() {
            let error = HandoffError::ChecksumMismatch { block, group: part.group };
            self.fail(part.transfer, error);
        }
    }

    /// The connection is gone, and with it whoever could write through it.
    pub(crate) fn on_closed(&mut self, conn: ConnId) {
        let closed = || HandoffError::gone("it was closed");
        let of_conn = |i: &Incoming| match &i.phase {
            Phase::Expected => false,
            Phase::Early(peer) | Phase::Asked(peer) => peer.conn == conn,
            Phase::Filling(granted) => granted.peer.conn == conn,
            Phase::Revoking { conn: of, .. } => *of == conn,
        };
        let ids: Vec<TransferId> =
            self.transfers.iter().filter(|(_, i)| of_conn(i)).map(|(id, _)| *id).collect();
        for transfer in ids {
            match self.transfers.remove(&transfer).map(|i| i.phase) {
                Some(Phase::Filling(granted)) => {
                    granted.gate.shut();
                    self.failed_event(transfer, closed());
                }
                Some(Phase::Asked(_)) => self.failed_event(transfer, closed()),
                Some(Phase::Revoking { .. }) => {
                    self.actions.push_back(ReceiveAction::Fenced(transfer));
                }
                Some(Phase::Expected | Phase::Early(_)) | None => {}
            }
        }
    }

    /// The connection broke the protocol: its transfers die, but it may still be able to store.
    pub(crate) fn on_broken(&mut self, conn: ConnId, error: &HandoffError) {
        let of_conn = |i: &Incoming| match &i.phase {
            Phase::Early(peer) | Phase::Asked(peer) => peer.conn == conn,
            Phase::Filling(granted) => granted.peer.conn == conn,
            Phase::Expected | Phase::Revoking { .. } => false,
        };
        let ids: Vec<TransferId> =
            self.transfers.iter().filter(|(_, i)| of_conn(i)).map(|(id, _)| *id).collect();
        for transfer in ids {
            self.fail(transfer, error.clone());
        }
    }

    /// Fails what ran into its deadline.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let late = |i: &Incoming| i.deadline <= now && !matches!(i.phase, Phase::Revoking { .. });
        let ids: Vec<TransferId> =
            self.transfers.iter().filter(|(_, i)| late(i)).map(|(id, _)| *id).collect();
        for transfer in ids {
            let early = self.transfers.get(&transfer).map(|i| matches!(i.phase, Phase::Early(_)));
            if early == Some(true) {
                self.end(transfer, &HandoffError::Refused("nobody waits for it".into()));
            } else {
                self.fail(transfer, HandoffError::Expired);
            }
        }
    }

    fn push(&mut self, now: Instant, transfer: TransferId, peer: Peer, ttl: Duration) {
        let conn = peer.conn;
        let full = self.transfers.len() >= self.limits.transfers_max;
        match self.transfers.get_mut(&transfer) {
            Some(incoming) if matches!(incoming.phase, Phase::Expected) => {
                incoming.phase = Phase::Asked(peer);
                incoming.deadline = incoming.deadline.min(now + ttl);
                self.event(ReceiverEvent::GrantRequested { transfer });
            }
            Some(_) => {}
            None if full => {
                let error = HandoffError::Refused("too many hand-offs are running".into());
                self.send(conn, Message::Failed { transfer, epoch: 0, error });
            }
            None => {
                let deadline = now + self.limits.unknown_wait.min(ttl);
                self.transfers.insert(transfer, Incoming { phase: Phase::Early(peer), deadline });
            }
        }
    }

    /// The grant of `transfer`, if `conn` holds it under `epoch`.
    fn live(&mut self, conn: ConnId, transfer: TransferId, epoch: u64) -> Option<&mut Granted> {
        match &mut self.transfers.get_mut(&transfer)?.phase {
            Phase::Filling(granted) if granted.peer.conn == conn && granted.epoch == epoch => {
                Some(granted)
            }
            _ => None,
        }
    }

    fn complete(&mut self, transfer: TransferId) {
        let Some(Incoming { phase: Phase::Filling(granted), .. }) = self.transfers.get(&transfer)
        else {
            return;
        };
        let Some(first_token) = granted.commit.filter(|_| granted.counted.count() == granted.units)
        else {
            return;
        };
        granted.gate.shut();
        let (conn, epoch) = (granted.peer.conn, granted.epoch);
        self.transfers.remove(&transfer);
        self.send(conn, Message::Done { transfer, epoch });
        self.event(ReceiverEvent::Completed { transfer, first_token });
    }

    fn stopped(&mut self, conn: ConnId, transfer: TransferId, epoch: u64, error: HandoffError) {
        let Some(incoming) = self.transfers.get(&transfer) else { return };
        match &incoming.phase {
            Phase::Early(peer) if peer.conn == conn => {
                self.transfers.remove(&transfer);
            }
            Phase::Asked(peer) if peer.conn == conn => {
                self.transfers.remove(&transfer);
                self.failed_event(transfer, error);
            }
            Phase::Filling(granted)
                if granted.peer.conn == conn && (epoch == 0 || epoch == granted.epoch) =>
            {
                granted.gate.shut();
                self.transfers.remove(&transfer);
                self.failed_event(transfer, error);
            }
            Phase::Revoking { conn: of, epoch: last }
                if *of == conn && (epoch == 0 || epoch == *last) =>
            {
                self.transfers.remove(&transfer);
                self.actions.push_back(ReceiveAction::Fenced(transfer));
            }
            _ => {}
        }
    }

    fn fail(&mut self, transfer: TransferId, error: HandoffError) {
        if self.end(transfer, &error) {
            self.failed_event(transfer, error);
        }
    }

    /// Ends a transfer that was not dead yet, and tells the sender. False when there was none.
    fn end(&mut self, transfer: TransferId, error: &HandoffError) -> bool {
        let Some(incoming) = self.transfers.remove(&transfer) else { return false };
        let deadline = incoming.deadline;
        let (conn, epoch) = match incoming.phase {
            Phase::Expected => return true,
            Phase::Early(peer) | Phase::Asked(peer) => (peer.conn, 0),
            Phase::Filling(granted) => {
                granted.gate.shut();
                let (conn, epoch) = (granted.peer.conn, granted.epoch);
                if granted.peer.one_sided {
                    let phase = Phase::Revoking { conn, epoch };
                    self.transfers.insert(transfer, Incoming { phase, deadline });
                }
                (conn, epoch)
            }
            phase @ Phase::Revoking { .. } => {
                self.transfers.insert(transfer, Incoming { phase, deadline });
                return false;
            }
        };
        self.send(conn, Message::Failed { transfer, epoch, error: error.clone() });
        true
    }

    fn send(&mut self, conn: ConnId, message: Message) {
        self.actions.push_back(ReceiveAction::Send(conn, message));
    }

    fn event(&mut self, event: ReceiverEvent) {
        self.actions.push_back(ReceiveAction::Event(event));
    }

    fn failed_event(&mut self, transfer: TransferId, error: HandoffError) {
        self.event(ReceiverEvent::Failed { transfer, error });
    }
}

#[cfg(test)]
mod tests;
