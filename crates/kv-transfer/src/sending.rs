//! The sending side of one connection as a pure state machine: events and the time in, actions out.
//!
//! The shell carries out the actions in order and one at a time; so once it is told the outcome of a
//! transfer, no action that reads the transfer's source blocks is left.

mod outgoing;

pub(crate) use outgoing::{PartPlan, Window, unit_index};

use crate::bitmap::Bitmap;
use crate::message::{FirstToken, Message};
use crate::runs::expand;
use crate::{HandoffError, HandoffLayout};
use estafette_types::{BlockId, TransferId};
use outgoing::{Grant, Outgoing};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What one finished transfer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PushStats {
    /// Bytes of KV sent, also those that were sent again.
    pub bytes: u64,
    /// Units that were sent again, because they came damaged or not at all.
    pub units_again: u64,
    /// Parts they were sent in.
    pub parts: u64,
    /// Bytes that had left before the prompt was finished: the overlap with computing.
    pub bytes_before_commit: u64,
    /// From the start of the push to the receiver's Done.
    pub elapsed: Duration,
}

/// What the shell is to do.
#[derive(Clone, Debug)]
pub(crate) enum SendAction {
    /// Send a message that carries no units.
    Message(Message),
    /// Send these units.
    Part(PartPlan),
    /// The transfer is over on this side.
    Outcome(TransferId, Result<PushStats, HandoffError>),
}

/// All transfers of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    layout: HandoffLayout,
    window: Window,
    in_flight: u64,
    attempts: u64,
    transfers: BTreeMap<TransferId, Outgoing>,
    turn: Option<TransferId>,
    actions: VecDeque<SendAction>,
}

impl Sending {
    pub(crate) fn new(layout: HandoffLayout, window: Window) -> Self {
        Self {
            layout,
            window,
            in_flight: 0,
            attempts: 0,
            transfers: BTreeMap::new(),
            turn: None,
            actions: VecDeque::new(),
        }
    }

    /// Asks the receiver for a grant.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        transfer: TransferId,
        table: Vec<BlockId>,
        deadline: Instant,
    ) {
        if self.transfers.contains_key(&transfer) {
            let error = HandoffError::protocol("the transfer is already running");
            return self.actions.push_back(SendAction::Outcome(transfer, Err(error)));
        }
        self.attempts += 1;
        let attempt = self.attempts;
        let push = Message::Push {
            transfer,
            attempt,
            blocks: table.len() as u32,
            ttl: deadline.saturating_duration_since(now),
        };
        self.actions.push_back(SendAction::Message(push));
        let outgoing = Outgoing {
            attempt,
            table,
            grant: None,
            ready: VecDeque::new(),
            commit: None,
            committed: false,
            started: now,
            deadline,
            stats: PushStats::default(),
        };
        self.transfers.insert(transfer, outgoing);
    }

    /// The units of `group` in `blocks` are final.
    pub(crate) fn ready(&mut self, transfer: TransferId, group: u32, blocks: Range<u32>) {
        let groups = self.layout.groups();
        if let Some(out) = self.transfers.get_mut(&transfer) {
            let end = blocks.end.min(out.table.len() as u32);
            if group < groups && blocks.start < end {
                out.ready.push_back((group, blocks.start..end));
            }
        }
    }

    /// The prompt is done; everything has been announced.
    pub(crate) fn commit(&mut self, transfer: TransferId, first_token: FirstToken) {
        if let Some(out) = self.transfers.get_mut(&transfer) {
            out.commit = Some(first_token);
            out.stats.bytes_before_commit = out.stats.bytes;
        }
    }

    /// Gives the transfer up.
    pub(crate) fn abort(&mut self, transfer: TransferId) {
        self.stop(transfer, HandoffError::Aborted);
    }

    /// The connection is gone: every transfer fails.
    pub(crate) fn close(&mut self, error: &HandoffError) {
        self.actions.retain(|action| matches!(action, SendAction::Outcome(..)));
        for transfer in std::mem::take(&mut self.transfers).into_keys() {
            self.actions.push_back(SendAction::Outcome(transfer, Err(error.clone())));
        }
    }

    /// A message came from the receiver.
    ///
    /// # Errors
    /// When it breaks the protocol; the connection is to be closed.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        message: Message,
    ) -> Result<(), HandoffError> {
        match message {
            Message::Grant { transfer, attempt, epoch, runs, units, ttl } => {
                let known = self.transfers.get_mut(&transfer);
                let Some(out) = known.filter(|out| out.attempt == attempt) else {
                    self.say_stopped(transfer, attempt, HandoffError::Aborted);
                    return Ok(());
                };
                if out.grant.is_some() {
                    return Ok(());
                }
                let to = expand(&runs, out.table.len() as u32, self.window.pool_blocks)?;
                let all = to.len() * self.layout.groups() as usize;
                if all != units as usize {
                    return Err(HandoffError::protocol("a grant whose unit count is wrong"));
                }
                let sent = Bitmap::new(out.table.len() * self.layout.groups() as usize);
                let (expires, again) = (now + ttl, VecDeque::new());
                out.grant = Some(Grant { epoch, to, sent, units: all, expires, round: 0, again });
            }
            Message::Resend { transfer, epoch, round, group, blocks } => {
                let out = self.transfers.get_mut(&transfer);
                let grant = out.and_then(|out| out.grant.as_mut()).filter(|g| g.epoch == epoch);
                if let Some(grant) = grant {
                    grant.send_again(round, group, &blocks, self.layout.groups())?;
                }
            }
            Message::Ack { bytes } => self.in_flight = self.in_flight.saturating_sub(bytes),
            Message::Done { transfer, epoch } => self.done(now, transfer, epoch),
            Message::Failed { transfer, attempt, error } => self.failed(transfer, attempt, error),
            Message::Reject(error) => return Err(error),
            Message::Hello(_)
            | Message::Welcome { .. }
            | Message::Push { .. }
            | Message::Part(_)
            | Message::Commit { .. }
            | Message::Stopped { .. } => {
                return Err(HandoffError::protocol("a message that only senders send"));
            }
        }
        Ok(())
    }

    /// Fails what ran into its deadline or outlived its grant.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let late: Vec<TransferId> =
            self.transfers.iter().filter(|(_, out)| out.ends() <= now).map(|(id, _)| *id).collect();
        for transfer in late {
            self.stop(transfer, HandoffError::Expired);
        }
    }

    /// When [`on_time`](Self::on_time) is to be called next.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.transfers.values().map(Outgoing::ends).min()
    }

    /// The next thing to do. Transfers take turns, part by part.
    pub(crate) fn poll_action(&mut self) -> Option<SendAction> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let after =
            self.turn.map(|turn| (std::ops::Bound::Excluded(turn), std::ops::Bound::Unbounded));
        let mut order: Vec<TransferId> = match after {
            Some(range) => self.transfers.range(range).map(|(id, _)| *id).collect(),
            None => Vec::new(),
        };
        order.extend(self.transfers.keys().take_while(|id| self.turn.is_some_and(|t| **id <= t)));
        if self.turn.is_none() {
            order = self.transfers.keys().copied().collect();
        }
        order.into_iter().find_map(|transfer| self.advance(transfer))
    }

    fn advance(&mut self, transfer: TransferId) -> Option<SendAction> {
        let out = self.transfers.get_mut(&transfer)?;
        if let Some((plan, bytes)) = out.next_part(transfer, &self.layout, &self.window) {
            if self.in_flight > 0 && self.in_flight + bytes as u64 > self.window.credit {
                out.put_back(&plan);
                return None;
            }
            out.mark_sent(&plan, bytes, self.layout.groups());
            self.in_flight += bytes as u64;
            self.turn = Some(transfer);
            return Some(SendAction::Part(plan));
        }
        let grant = out.grant.as_ref()?;
        let first_token = out.commit.filter(|_| !out.committed)?;
        if grant.sent.count() < grant.units {
            let error = HandoffError::protocol("committed before every granted unit was ready");
            self.stop(transfer, error);
            return self.actions.pop_front();
        }
        out.committed = true;
        let epoch = grant.epoch;
        Some(SendAction::Message(Message::Commit { transfer, epoch, first_token }))
    }

    fn done(&mut self, now: Instant, transfer: TransferId, epoch: u64) {
        let live = self.transfers.get(&transfer).is_some_and(|out| {
            out.committed && out.grant.as_ref().is_some_and(|grant| grant.epoch == epoch)
        });
        if live && let Some(out) = self.transfers.remove(&transfer) {
            let elapsed = now.saturating_duration_since(out.started);
            let stats = PushStats { elapsed, ..out.stats };
            self.actions.push_back(SendAction::Outcome(transfer, Ok(stats)));
        }
    }

    /// The receiver ended it. Answered even when nothing is known: the receiver waits for the answer.
    fn failed(&mut self, transfer: TransferId, attempt: u64, error: HandoffError) {
        let this = self.transfers.get(&transfer).is_some_and(|out| out.attempt == attempt);
        if this && self.transfers.remove(&transfer).is_some() {
            self.actions.push_back(SendAction::Outcome(transfer, Err(error.clone())));
        }
        self.say_stopped(transfer, attempt, error);
    }

    fn stop(&mut self, transfer: TransferId, error: HandoffError) {
        if let Some(out) = self.transfers.remove(&transfer) {
            self.say_stopped(transfer, out.attempt, error.clone());
            self.actions.push_back(SendAction::Outcome(transfer, Err(error)));
        }
    }

    fn say_stopped(&mut self, transfer: TransferId, attempt: u64, error: HandoffError) {
        let stopped = Message::Stopped { transfer, attempt, error };
        self.actions.push_back(SendAction::Message(stopped));
    }
}

#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod tests;
