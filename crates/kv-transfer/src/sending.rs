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

/// One part to send: where its units are here and where they belong there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartPlan {
    pub(crate) transfer: TransferId,
    pub(crate) epoch: u64,
    pub(crate) group: u32,
    pub(crate) first_block: u32,
    /// Of the request that it answers; 0 when the units go for the first time.
    pub(crate) round: u32,
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
            round: self.round,
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

#[derive(Clone, Debug, Hash)]
struct Grant {
    epoch: u64,
    to: Destinations,
    sent: Bitmap,
    units: usize,
    expires: Instant,
    /// The newest request to send units again, and what is left to send of all of them: round, group, block.
    round: u32,
    again: VecDeque<(u32, u32, u32)>,
}

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Outgoing {
    attempt: u64,
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

impl Window {
    /// Units of `unit` bytes in one part.
    fn units_of(&self, unit: usize) -> usize {
        (self.part / unit.max(1)).clamp(1, self.units.max(1))
    }
}

impl Grant {
    /// The receiver wants these units once more. A repeat of what it has asked before changes nothing.
    fn send_again(
        &mut self,
        round: u32,
        group: u32,
        blocks: &[u32],
        groups: u32,
    ) -> Result<(), HandoffError> {
        if round <= self.round {
            return Ok(());
        }
        let sent = |b: &u32| {
            group < groups
                && self.to.contains_key(b)
                && self.sent.contains(unit_index(*b, group, groups))
        };
        if !blocks.iter().all(sent) {
            return Err(HandoffError::protocol("units are asked for again that were never sent"));
        }
        if self.again.len() + blocks.len() > self.units {
            return Err(HandoffError::protocol("more units are asked for again than there are"));
        }
        self.round = round;
        self.again.extend(blocks.iter().map(|b| (round, group, *b)));
        Ok(())
    }
}

impl Outgoing {
    fn ends(&self) -> Instant {
        self.grant.as_ref().map_or(self.deadline, |grant| grant.expires.min(self.deadline))
    }

    /// The next part: of units that are to be sent again, else of units that go for the first time.
    fn next_part(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        self.next_again(transfer, layout, window)
            .or_else(|| self.next_fresh(transfer, layout, window))
    }

    /// Takes neighbours of one request to send again, at most one part long.
    fn next_again(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        let grant = self.grant.as_mut()?;
        let (round, group, first_block) = *grant.again.front()?;
        let unit = layout.unit_bytes(group);
        let mut blocks = Vec::new();
        while blocks.len() < window.units_of(unit)
            && let Some(&next) = grant.again.front()
            && next == (round, group, first_block + blocks.len() as u32)
            && let Some(from) = self.table.get(next.2 as usize)
            && let Some(to) = grant.to.get(&next.2)
        {
            blocks.push((*from, *to));
            grant.again.pop_front();
        }
        let (epoch, bytes) = (grant.epoch, blocks.len() * unit);
        Some((PartPlan { transfer, epoch, group, first_block, round, blocks }, bytes))
    }

    /// Takes the next run of granted, unsent, ready units of one group, at most one part long.
    fn next_fresh(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        let grant = self.grant.as_ref()?;
        while let Some((group, blocks)) = self.ready.pop_front() {
            let unit = layout.unit_bytes(group);
            let most = window.units_of(unit);
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
            let (epoch, first_block) = (grant.epoch, first);
            let plan = PartPlan { transfer, epoch, group, first_block, round: 0, blocks };
            return Some((plan, bytes));
        }
        None
    }

    fn put_back(&mut self, plan: &PartPlan) {
        let blocks = plan.first_block..plan.first_block + plan.blocks.len() as u32;
        if plan.round == 0 {
            return self.ready.push_front((plan.group, blocks));
        }
        if let Some(grant) = self.grant.as_mut() {
            blocks.rev().for_each(|b| grant.again.push_front((plan.round, plan.group, b)));
        }
    }

    fn mark_sent(&mut self, plan: &PartPlan, bytes: usize, groups: u32) {
        if let Some(grant) = self.grant.as_mut() {
            for i in 0..plan.blocks.len() as u32 {
                grant.sent.insert(unit_index(plan.first_block + i, plan.group, groups));
            }
        }
        if plan.round > 0 {
            self.stats.units_again += plan.blocks.len() as u64;
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
mod snapshot;
#[cfg(test)]
mod tests;
