//! The receiving side as a pure state machine: all transfers of all connections.
//!
//! ```text
//! expected/asking ─▶ asked ─grant▶ granted ─part▶ filling ─last part and commit▶ adopted
//!                                     └── abort, expiry, error ──▶ revoking ─▶ free
//! ```
//! Where the receiver itself stores the bytes (TCP) revoking ends at once: the [`Gate`] is shut and later
//! parts are read and thrown away. Where the sender stores them (shared memory) it ends with the sender's
//! last word on the transfer, or with the end of its connection.

mod api;
mod gate;
mod resend;
mod transfer;

pub(crate) use api::{ConnId, Placement, ReceiveAction};
pub use api::{ReceiverEvent, ReceiverLimits};
pub(crate) use gate::Gate;

use crate::bitmap::Bitmap;
use crate::message::{Message, Part, RUNS_MAX};
use crate::runs::{Destinations, coalesce};
use crate::{HandoffError, HandoffLayout};
use estafette_types::{BlockId, SequenceId, TransferId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use transfer::{Ended, Granted, Incoming, Peer, Phase};

/// All transfers of the receiver.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
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

    /// The epoch of the newest grant.
    #[cfg(any(test, feature = "proof"))]
    pub(crate) fn last_epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let waiting = |i: &&Incoming| !matches!(i.phase, Phase::Revoking { .. });
        self.transfers.values().filter(waiting).map(|i| i.deadline).min()
    }

    /// Whether a writer of `transfer` may still be there although it is dead.
    pub(crate) fn is_revoking(&self, transfer: TransferId) -> bool {
        self.transfers.get(&transfer).is_some_and(|i| matches!(i.phase, Phase::Revoking { .. }))
    }

    /// The decode leg of `sequence` is here.
    ///
    /// # Errors
    /// When as many transfers as allowed are running, or this one is, for another leg.
    pub(crate) fn expect(
        &mut self,
        transfer: TransferId,
        sequence: SequenceId,
        deadline: Instant,
    ) -> Result<(), HandoffError> {
        if let Some(incoming) = self.transfers.get_mut(&transfer) {
            let Phase::Early(peer) = incoming.phase else {
                return Err(HandoffError::Refused("the transfer is already running".into()));
            };
            *incoming = Incoming { phase: Phase::Asked(peer), sequence: Some(sequence), deadline };
            self.event(ReceiverEvent::GrantRequested { transfer, sequence });
            return Ok(());
        }
        if self.transfers.len() >= self.limits.transfers_max {
            return Err(HandoffError::Refused("too many hand-offs are running".into()));
        }
        let incoming = Incoming { phase: Phase::Expected, sequence: Some(sequence), deadline };
        self.transfers.insert(transfer, incoming);
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
            Some(Incoming { phase, deadline, .. }) => (phase, *deadline),
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
            asked: BTreeMap::new(),
            round: 0,
            resends_left: self.limits.resend_units,
            gate: Arc::new(Gate::open()),
            commit: None,
        };
        let ttl = deadline.saturating_duration_since(now);
        let (attempt, epoch, units) = (granted.peer.attempt, self.epoch, units as u32);
        let grant = Message::Grant { transfer, attempt, epoch, runs, units, ttl };
        self.actions.push_back(ReceiveAction::Send(granted.peer.conn, grant));
        *phase = Phase::Filling(granted);
        Ok(())
    }

    /// The engine does not want the transfer (any more). No event follows. Returns the leading blocks that
    /// are verified, as [`ReceiverEvent::Failed`] does.
    pub(crate) fn cancel(&mut self, transfer: TransferId, error: &HandoffError) -> u32 {
        self.end(transfer, error).map_or(0, |ended| ended.verified_blocks)
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
            Message::Push { transfer, attempt, blocks, ttl } => {
                self.push(now, transfer, Peer { conn, attempt, blocks, one_sided }, ttl);
            }
            Message::Commit { transfer, epoch, first_token } => {
                if let Some(granted) = self.live(conn, transfer, epoch) {
                    granted.commit = Some(first_token);
                    self.ask_for_lost(transfer);
                    self.complete(transfer);
                }
            }
            Message::Stopped { transfer, attempt, error } => {
                self.stopped(conn, transfer, attempt, &error);
            }
            Message::Hello(_)
            | Message::Welcome { .. }
            | Message::Reject(_)
            | Message::Grant { .. }
            | Message::Part(_)
            | Message::Ack { .. }
            | Message::Done { .. }
            | Message::Resend { .. }
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
        let wanted = |block: u32| granted.wanted(part, block, groups);
        Ok(Placement { gate: Some(granted.gate.clone()), to: blocks.map(wanted).collect() })
    }

    /// The connection is gone, and with it whoever could write through it.
    pub(crate) fn on_closed(&mut self, conn: ConnId) {
        let error = HandoffError::gone("it was closed");
        let ids: Vec<TransferId> = self.transfers_of(conn).collect();
        for transfer in ids {
            self.fenced(transfer, &error);
        }
    }

    /// The connection broke the protocol: its transfers die, but it may still be able to store.
    pub(crate) fn on_broken(&mut self, conn: ConnId, error: &HandoffError) {
        let ids: Vec<TransferId> = self.transfers_of(conn).collect();
        for transfer in ids {
            self.fail(transfer, error.clone());
        }
    }

    fn transfers_of(&self, conn: ConnId) -> impl Iterator<Item = TransferId> {
        let of_conn = move |i: &Incoming| i.phase.attempt_on(conn).is_some();
        self.transfers.iter().filter(move |(_, i)| of_conn(i)).map(|(id, _)| *id)
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
        let Peer { conn, attempt, .. } = peer;
        // A sender has one push of a transfer at a time: a newer one is its last word on the older.
        if let Some(old) = self.transfers.get(&transfer).and_then(|i| i.phase.attempt_on(conn))
            && old < attempt
        {
            self.stopped(conn, transfer, old, &HandoffError::Aborted);
        }
        let full = self.transfers.len() >= self.limits.transfers_max;
        match self.transfers.get_mut(&transfer) {
            Some(Incoming {
                phase: phase @ Phase::Expected,
                sequence: Some(sequence),
                deadline,
            }) => {
                let sequence = *sequence;
                *phase = Phase::Asked(peer);
                *deadline = (*deadline).min(now + ttl);
                self.event(ReceiverEvent::GrantRequested { transfer, sequence });
            }
            // A repeat of what is known.
            Some(incoming) if incoming.phase.attempt_on(conn).is_some_and(|a| a >= attempt) => {}
            Some(_) => self.refuse(conn, transfer, attempt, "the transfer is already running"),
            None if full => self.refuse(conn, transfer, attempt, "too many hand-offs are running"),
            None => {
                let deadline = now + self.limits.unknown_wait.min(ttl);
                let incoming = Incoming { phase: Phase::Early(peer), sequence: None, deadline };
                self.transfers.insert(transfer, incoming);
            }
        }
    }

    fn refuse(&mut self, conn: ConnId, transfer: TransferId, attempt: u64, why: &str) {
        let error = HandoffError::Refused(why.into());
        self.send(conn, Message::Failed { transfer, attempt, error });
    }

    /// The grant of `transfer`, if it has one.
    fn granted(&mut self, transfer: TransferId) -> Option<&mut Granted> {
        match &mut self.transfers.get_mut(&transfer)?.phase {
            Phase::Filling(granted) => Some(granted),
            _ => None,
        }
    }

    /// The grant of `transfer`, if `conn` holds it under `epoch`.
    fn live(&mut self, conn: ConnId, transfer: TransferId, epoch: u64) -> Option<&mut Granted> {
        self.granted(transfer).filter(|g| g.peer.conn == conn && g.epoch == epoch)
    }

    fn complete(&mut self, transfer: TransferId) {
        let Some(Incoming { phase: Phase::Filling(granted), sequence: Some(sequence), .. }) =
            self.transfers.get(&transfer)
        else {
            return;
        };
        let Some(first_token) = granted.commit.filter(|_| granted.counted.count() == granted.units)
        else {
            return;
        };
        granted.gate.shut();
        let (conn, epoch, sequence) = (granted.peer.conn, granted.epoch, *sequence);
        self.transfers.remove(&transfer);
        self.send(conn, Message::Done { transfer, epoch });
        self.event(ReceiverEvent::Completed { transfer, sequence, first_token });
    }

    /// The sender's last word on one push.
    fn stopped(&mut self, conn: ConnId, transfer: TransferId, attempt: u64, error: &HandoffError) {
        let phase = self.transfers.get(&transfer).map(|incoming| &incoming.phase);
        if phase.and_then(|phase| phase.attempt_on(conn)) == Some(attempt) {
            self.fenced(transfer, error);
        }
    }

    /// Nobody can write for `transfer` any more, and with that it is over.
    fn fenced(&mut self, transfer: TransferId, error: &HandoffError) {
        let Some(Incoming { phase, sequence, .. }) = self.transfers.remove(&transfer) else {
            return;
        };
        let verified_blocks = match phase {
            Phase::Filling(granted) => {
                granted.gate.shut();
                granted.verified_blocks(self.layout.groups())
            }
            Phase::Revoking { .. } => {
                return self.actions.push_back(ReceiveAction::Fenced(transfer));
            }
            Phase::Expected | Phase::Early(_) | Phase::Asked(_) => 0,
        };
        if let Some(sequence) = sequence {
            let error = error.clone();
            self.event(ReceiverEvent::Failed { transfer, sequence, error, verified_blocks });
        }
    }

    fn fail(&mut self, transfer: TransferId, error: HandoffError) {
        if let Some(Ended { sequence: Some(sequence), verified_blocks }) =
            self.end(transfer, &error)
        {
            self.event(ReceiverEvent::Failed { transfer, sequence, error, verified_blocks });
        }
    }

    /// Ends a transfer that was not dead yet, and tells the sender. `None` when there was none.
    fn end(&mut self, transfer: TransferId, error: &HandoffError) -> Option<Ended> {
        let incoming = self.transfers.get_mut(&transfer)?;
        let sequence = incoming.sequence;
        let mut ended = Ended { sequence, verified_blocks: 0 };
        let (peer, stores) = match &incoming.phase {
            Phase::Revoking { .. } => return None,
            Phase::Expected => {
                self.transfers.remove(&transfer);
                return Some(ended);
            }
            Phase::Early(peer) | Phase::Asked(peer) => (*peer, false),
            Phase::Filling(granted) => {
                granted.gate.shut();
                ended.verified_blocks = granted.verified_blocks(self.layout.groups());
                (granted.peer, granted.peer.one_sided)
            }
        };
        let Peer { conn, attempt, .. } = peer;
        if stores {
            incoming.phase = Phase::Revoking { conn, attempt };
        } else {
            self.transfers.remove(&transfer);
        }
        self.send(conn, Message::Failed { transfer, attempt, error: error.clone() });
        Some(ended)
    }

    fn send(&mut self, conn: ConnId, message: Message) {
        self.actions.push_back(ReceiveAction::Send(conn, message));
    }

    fn event(&mut self, event: ReceiverEvent) {
        self.actions.push_back(ReceiveAction::Event(event));
    }
}

#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod tests;
