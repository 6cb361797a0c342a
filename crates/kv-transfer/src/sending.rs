//! The sending side of one connection as a pure state machine: events and the time in, actions out.
//!
//! The shell carries out the actions in order and one at a time; so once it is told the outcome of a
//! transfer, no action that reads the transfer's source blocks is left.

use crate::bitmap::Bitmap;
use crate::message::{FirstToken, Message, Part};
use crate::runs::{Destinations, expand};
use crate::{HandoffError, HandoffLayout};
use estafette_types::{BlockId, TransferId};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What one finished transfer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushStats {
    /// Bytes of KV sent.
    pub bytes: u64,
    /// Parts they were sent in.
    pub parts: u64,
    /// Bytes that had left before the prompt was finished: the overlap with computing.
    pub bytes_before_commit: u64,
    /// From the start of the push to the receiver's Done.
    pub elapsed: Duration,
}

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum SendAction {
    /// Send a message that carries no units.
    Message(Message),
    /// Send these units.
    Part(PartPlan),
    /// The transfer is over on this side.
    Outcome(TransferId, Result<PushStats, HandoffError>),
}

/// One part to send: where its units are here and where they belong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartPlan {
    pub(crate) transfer: TransferId,
    pub(crate) epoch: u64,
    pub(crate) group: u32,
    pub(crate) first_block: u32,
    /// Block here, block there, in logical order.
    pub(crate) blocks: Vec<(BlockId, BlockId)>,
}

impl PartPlan {
    /// The header, once the checksums are known.
    pub(crate) fn header(&self, checksums: Vec<u64>) -> Part {
        Part {
            transfer: self.transfer,
            epoch: self.epoch,
            group: self.group,
            first_block: self.first_block,
            checksums,
        }
    }
}

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Bytes that may be unacknowledged.
    pub(crate) credit: u64,
    /// Bytes of one part, except that a single unit may be larger.
    pub(crate) part: usize,
    /// Units of one part.
    pub(crate) units: usize,
    /// Blocks of the receiver's pool.
    pub(crate) pool_blocks: u32,
}

#[derive(Debug)]
struct Grant {
    epoch: u64,
    to: Destinations,
    sent: Bitmap,
    units: usize,
    expires: Instant,
}

#[derive(Debug)]
struct Outgoing {
    table: Vec<BlockId>,
    grant: Option<Grant>,
    ready: VecDeque<(u32, Range<u32>)>,
    commit: Option<FirstToken>,
    committed: bool,
    started: Instant,
    deadline: Instant,
    stats: PushStats,
}

/// All transfers of one connection.
#[derive(Debug)]
pub(crate) struct Sending {
    layout: HandoffLayout,
    window: Window,
    in_flight: u64,
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
        let push = Message::Push {
            transfer,
            blocks: table.len() as u32,
            ttl: deadline.saturating_duration_since(now),
        };
        self.actions.push_back(SendAction::Message(push));
        let outgoing = Outgoing {
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
            Message::Grant { transfer, epoch, runs, units, ttl } => {
                let Some(out) = self.transfers.get_mut(&transfer) else {
                    self.say_stopped(transfer, epoch, HandoffError::Aborted);
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
                let expires = now + ttl;
                out.grant = Some(Grant { epoch, to, sent, units: all, expires });
            }
            Message::Ack { bytes } => self.in_flight = self.in_flight.saturating_sub(bytes),
            Message::Done { transfer, epoch } => self.done(now, transfer, epoch),
            Message::Failed { transfer, epoch, error } => self.failed(transfer, epoch, error),
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
    fn failed(&mut self, transfer: TransferId, epoch: u64, error: HandoffError) {
        let newer = self.transfers.get(&transfer).is_some_and(|out| {
            out.grant.as_ref().is_some_and(|grant| epoch != 0 && grant.epoch > epoch)
        });
        if !newer && self.transfers.remove(&transfer).is_some() {
            self.actions.push_back(SendAction::Outcome(transfer, Err(error.clone())));
        }
        self.say_stopped(transfer, epoch, error);
    }

    fn stop(&mut self, transfer: TransferId, error: HandoffError) {
        if let Some(out) = self.transfers.remove(&transfer) {
            let epoch = out.grant.map_or(0, |grant| grant.epoch);
            self.say_stopped(transfer, epoch, error.clone());
            self.actions.push_back(SendAction::Outcome(transfer, Err(error)));
        }
    }

    fn say_stopped(&mut self, transfer: TransferId, epoch: u64, error: HandoffError) {
        let stopped = Message::Stopped { transfer, epoch, error };
        self.actions.push_back(SendAction::Message(stopped));
    }
}

impl Outgoing {
    fn ends(&self) -> Instant {
        self.grant.as_ref().map_or(self.deadline, |grant| grant.expires.min(self.deadline))
    }

    /// Takes the next run of granted, unsent, ready units of one group, at most one part long.
    fn next_part(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        let grant = self.grant.as_ref()?;
        while let Some((group, blocks)) = self.ready.pop_front() {
            let unit = layout.unit_bytes(group);
            let most = (window.part / unit.max(1)).clamp(1, window.units.max(1));
            let wanted = |block: &u32| {
                grant.to.contains_key(block)
                    && !grant.sent.contains(unit_index(*block, group, layout.groups()))
            };
            let Some(first) = blocks.clone().find(wanted) else { continue };
            let end = (first..blocks.end).take(most).take_while(wanted).last().unwrap_or(first) + 1;
            if end < blocks.end {
                self.ready.push_front((group, end..blocks.end));
            }
            let blocks = (first..end)
                .filter_map(|b| Some((*self.table.get(b as usize)?, *grant.to.get(&b)?)))
                .collect::<Vec<_>>();
            let bytes = blocks.len() * unit;
            let epoch = grant.epoch;
            return Some((PartPlan { transfer, epoch, group, first_block: first, blocks }, bytes));
        }
        None
    }

    fn put_back(&mut self, plan: &PartPlan) {
        let end = plan.first_block + plan.blocks.len() as u32;
        self.ready.push_front((plan.group, plan.first_block..end));
    }

    fn mark_sent(&mut self, plan: &PartPlan, bytes: usize, groups: u32) {
        if let Some(grant) = self.grant.as_mut() {
            for i in 0..plan.blocks.len() as u32 {
                grant.sent.insert(unit_index(plan.first_block + i, plan.group, groups));
            }
        }
        self.stats.bytes += bytes as u64;
        self.stats.parts += 1;
    }
}

/// The place of a unit in a transfer's bitmap.
pub(crate) fn unit_index(block: u32, group: u32, groups: u32) -> usize {
    block as usize * groups as usize + group as usize
}

#[cfg(test)]
mod tests;
