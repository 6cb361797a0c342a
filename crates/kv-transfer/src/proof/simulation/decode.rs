//! A decode worker: its engine (`receive.rs`), and what `receiver.rs` does around the machine.

use super::plan::{Bug, MILLI, Micros, Plan, Request};
use super::world::{Event, Step, World, content};
use crate::proof::invariants::one_verdict::Side;
use crate::proof::invariants::{Violation, right_bytes, whole};
use crate::proof::ledger::{GrantId, Ledger};
use crate::receiving::{ReceiveAction, Receiving};
use crate::{HandoffError, ReceiverEvent};
use estafette_types::{BlockId, SequenceId, TransferId};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A leg that waits for its KV.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    request: usize,
    asking: bool,
    grant: Option<GrantId>,
}

#[derive(Debug)]
pub(super) struct DecodeWorker {
    pub(super) incarnation: u64,
    pub(super) machine: Receiving,
    pub(super) ledger: Ledger,
    pub(super) pool: Vec<u8>,
    /// By leg.
    waiting: BTreeMap<usize, Waiting>,
    /// Slots that may still be written, and the leading blocks to keep then.
    fencing: BTreeMap<TransferId, (GrantId, u32)>,
    /// Slots of running sequences, by leg.
    running: BTreeMap<usize, GrantId>,
    events: VecDeque<ReceiverEvent>,
    pub(super) paused: Micros,
    pub(super) down: bool,
}

impl DecodeWorker {
    pub(super) fn new(plan: &Plan, incarnation: u64) -> Self {
        let kv = plan.layout.kv;
        Self {
            incarnation,
            machine: Receiving::new(plan.layout.clone(), plan.limits),
            ledger: Ledger::new(kv.num_blocks, plan.layout.groups()),
            pool: vec![0xaa; kv.total_bytes()],
            waiting: BTreeMap::new(),
            fencing: BTreeMap::new(),
            running: BTreeMap::new(),
            events: VecDeque::new(),
            paused: 0,
            down: false,
        }
    }

    pub(super) fn leg_of(&self, sequence: SequenceId) -> Option<usize> {
        Some(sequence.0 as usize).filter(|leg| self.waiting.contains_key(leg))
    }
}

impl World {
    /// A leg comes: it waits for its KV, or, when its transfer may still be written, does without.
    pub(super) fn leg_comes(&mut self, at: usize) -> Step {
        let request = self.plan.requests[at];
        if self.decodes[request.decode].down {
            return Ok(());
        }
        let same = |waiting: &Waiting| waiting.request == at;
        if self.decodes[request.decode].waiting.values().any(same) {
            return Ok(());
        }
        let leg = self.legs.len();
        self.legs.push(at);
        self.tries[at].leg = Some(leg);
        self.verdicts.owe(Side::Receiver, leg as u64);
        let deadline = self.instant() + Duration::from_micros(request.leg_time);
        let (transfer, sequence) = (TransferId(at as u128), SequenceId(leg as u64));
        let expected = self.decodes[request.decode].machine.expect(transfer, sequence, deadline);
        self.log(|| {
            format!("leg {leg} of request {at} at decode {}: {expected:?}", request.decode)
        });
        if expected.is_err() {
            return self.over(leg, false);
        }
        let waiting = Waiting { request: at, asking: false, grant: None };
        self.decodes[request.decode].waiting.insert(leg, waiting);
        if let Some(after) = request.cancel_after {
            self.soon(after.max(1), Event::Cancel(leg));
        }
        self.carry_out(request.decode)
    }

    pub(super) fn over(&mut self, leg: usize, completed: bool) -> Step {
        self.log(|| format!("leg {leg} is over, completed: {completed}"));
        self.result.completed += u64::from(completed);
        self.result.failed += u64::from(!completed);
        self.verdicts.give(Side::Receiver, leg as u64)?;
        if !completed {
            self.try_again(self.legs[leg]);
        }
        Ok(())
    }

    /// What the machine asks for, under the shell's lock.
    pub(super) fn carry_out(&mut self, decode: usize) -> Step {
        while let Some(action) = self.decodes[decode].machine.poll_action() {
            match action {
                ReceiveAction::Send(conn, message) => {
                    let conn = conn as usize;
                    if self.conns[conn].server.is_open() {
                        self.write(conn, false, &message, &[]);
                    }
                }
                ReceiveAction::Event(event) => {
                    self.decodes[decode].events.push_back(event);
                    self.soon(2 * MILLI, Event::DecodeEngine(decode));
                }
                ReceiveAction::Fenced(transfer) => {
                    if let Some((grant, verified)) = self.decodes[decode].fencing.remove(&transfer)
                    {
                        self.free(decode, grant, verified)?;
                    }
                }
            }
        }
        let incarnation = self.decodes[decode].incarnation;
        if let Some(at) = self.decodes[decode].machine.next_wakeup() {
            let at = self.micros(at);
            self.at(at, Event::DecodeTimer { decode, incarnation });
        }
        self.give_grants(decode)
    }

    pub(super) fn defer_decode(&mut self, decode: usize, event: Event) -> bool {
        let until = self.decodes[decode].paused;
        if until > self.now {
            self.at(until, event);
        }
        until > self.now
    }

    pub(super) fn decode_timer(&mut self, decode: usize, incarnation: u64) -> Step {
        if self.defer_decode(decode, Event::DecodeTimer { decode, incarnation })
            || self.decodes[decode].incarnation != incarnation
        {
            return Ok(());
        }
        let now = self.instant();
        let late = self.decodes[decode].machine.next_wakeup().is_some_and(|at| at <= now);
        if late {
            self.decodes[decode].machine.on_time(now);
            return self.carry_out(decode);
        }
        Ok(())
    }

    /// The engine takes its next event.
    pub(super) fn decode_engine(&mut self, decode: usize) -> Step {
        if self.defer_decode(decode, Event::DecodeEngine(decode)) {
            return Ok(());
        }
        let worker = &mut self.decodes[decode];
        let Some(event) = worker.events.pop_front() else { return Ok(()) };
        match event {
            ReceiverEvent::GrantRequested { sequence, .. } => {
                if let Some(waiting) =
                    worker.leg_of(sequence).and_then(|leg| worker.waiting.get_mut(&leg))
                {
                    waiting.asking = true;
                }
            }
            ReceiverEvent::Completed { sequence, .. } => {
                if let Some(leg) = worker.leg_of(sequence) {
                    self.adopt(decode, leg)?;
                }
            }
            ReceiverEvent::Failed { sequence, verified_blocks, .. } => {
                if let Some(leg) = worker.leg_of(sequence) {
                    self.give_up(decode, leg, verified_blocks)?;
                }
            }
        }
        self.carry_out(decode)
    }

    pub(super) fn adopt(&mut self, decode: usize, leg: usize) -> Step {
        let Some(Waiting { grant, .. }) = self.decodes[decode].waiting.remove(&leg) else {
            return Ok(());
        };
        let transfer = self.legs[leg] as u128;
        let Some(grant) = grant else {
            let grant = GrantId { transfer, epoch: 0 };
            return Err(Violation::NotWhole { grant, logical: 0, group: 0 });
        };
        whole::check(&self.decodes[decode].ledger, grant, u32::MAX)?;
        self.check_bytes(decode, grant, u32::MAX)?;
        self.decodes[decode].ledger.adopt(grant);
        self.decodes[decode].running.insert(leg, grant);
        let incarnation = self.decodes[decode].incarnation;
        self.soon(200 * MILLI, Event::SequenceEnds { decode, incarnation, leg });
        self.over(leg, true)
    }

    /// The granted blocks below `until` hold the bytes that belong there.
    pub(super) fn check_bytes(&self, decode: usize, grant: GrantId, until: u32) -> Step {
        let (layout, worker) = (&self.plan.layout, &self.decodes[decode]);
        for (logical, slot) in worker.ledger.blocks(grant).iter().filter(|(l, _)| *l < until) {
            for group in 0..layout.groups() {
                let found = &worker.pool[layout.unit_range(BlockId(*slot), group)];
                let right = content(self.plan.seed, grant.transfer, *logical, group, found.len());
                right_bytes::check(grant, *logical, group, found, &right)?;
            }
        }
        Ok(())
    }

    pub(super) fn sequence_ends(&mut self, decode: usize, incarnation: u64, leg: usize) -> Step {
        let worker = &mut self.decodes[decode];
        if worker.incarnation != incarnation {
            return Ok(());
        }
        if let Some(grant) = worker.running.remove(&leg) {
            worker.ledger.free_sequence(grant);
        }
        self.give_grants(decode)
    }

    pub(super) fn engine_cancels(&mut self, leg: usize) -> Step {
        let decode = self.plan.requests[self.legs[leg]].decode;
        if self.decodes[decode].waiting.contains_key(&leg) {
            self.log(|| format!("leg {leg} is cancelled"));
            self.give_up(decode, leg, 0)?;
            return self.carry_out(decode);
        }
        Ok(())
    }

    /// Takes the slots back, now or when nobody can write to them.
    pub(super) fn give_up(&mut self, decode: usize, leg: usize, verified: u32) -> Step {
        let worker = &mut self.decodes[decode];
        let Some(Waiting { request, grant, .. }) = worker.waiting.remove(&leg) else {
            return Ok(());
        };
        let transfer = TransferId(request as u128);
        let revoked = worker.machine.cancel(transfer, &HandoffError::Aborted);
        let verified = verified.max(revoked);
        if let Some(grant) = grant {
            let unsafe_yet = worker.machine.is_revoking(transfer);
            if unsafe_yet && self.plan.bug != Some(Bug::FreesAtOnce) {
                worker.fencing.insert(transfer, (grant, verified));
            } else {
                self.free(decode, grant, verified)?;
            }
        }
        self.over(leg, false)
    }

    /// Nobody can write any more: the leading blocks that are verified are kept, and everything is free.
    pub(super) fn free(&mut self, decode: usize, grant: GrantId, verified: u32) -> Step {
        whole::check(&self.decodes[decode].ledger, grant, verified)?;
        self.check_bytes(decode, grant, verified)?;
        let blocks = self.decodes[decode].ledger.blocks(grant);
        self.result.blocks_kept += blocks.iter().filter(|(l, _)| *l < verified).count() as u64;
        self.decodes[decode].ledger.free_grant(grant);
        Ok(())
    }

    /// Gives every grant that there is room for, oldest leg first, in slots at random.
    pub(super) fn give_grants(&mut self, decode: usize) -> Step {
        let legs: Vec<usize> = self.decodes[decode].waiting.keys().copied().collect();
        for leg in legs {
            let Some(Waiting { request, asking: true, grant: None }) =
                self.decodes[decode].waiting.get(&leg).copied()
            else {
                continue;
            };
            let Request { blocks, cached, .. } = self.plan.requests[request];
            let all = self.plan.layout.kv.num_blocks as usize;
            let free = (1..=all).rev().find_map(|count| self.decodes[decode].ledger.free(count));
            let mut free = free.unwrap_or_default();
            if free.len() < (blocks - cached) as usize {
                return Ok(());
            }
            let rng = &mut self.plan.rng;
            let granted: Vec<(u32, u32)> = (cached..blocks)
                .map(|l| (l, free.swap_remove(rng.below(free.len() as u64) as usize)))
                .collect();
            self.grant(decode, leg, request, granted)?;
        }
        Ok(())
    }

    pub(super) fn grant(
        &mut self,
        decode: usize,
        leg: usize,
        request: usize,
        blocks: Vec<(u32, u32)>,
    ) -> Step {
        let (now, transfer) = (self.instant(), TransferId(request as u128));
        let asked: Vec<_> = blocks.iter().map(|(l, p)| (*l, BlockId(*p))).collect();
        let worker = &mut self.decodes[decode];
        if worker.machine.grant(now, transfer, &asked).is_err() {
            return self.give_up(decode, leg, 0);
        }
        let grant = GrantId { transfer: transfer.0, epoch: worker.machine.last_epoch() };
        for (_, slot) in &blocks {
            let from = self.plan.layout.unit_range(BlockId(*slot), 0).start;
            worker.pool[from..from + self.plan.layout.kv.block_bytes()].fill(0xbb);
        }
        worker.ledger.grant(grant, blocks);
        if let Some(waiting) = worker.waiting.get_mut(&leg) {
            *waiting = Waiting { request, asking: false, grant: Some(grant) };
        }
        self.carry_out(decode)
    }

    /// Bytes go into a unit, from `from` on.
    pub(super) fn store(
        &mut self,
        decode: usize,
        by: GrantId,
        (logical, group, slot): (u32, u32, u32),
        from: usize,
        bytes: &[u8],
    ) -> Step {
        let worker = &mut self.decodes[decode];
        let range = self.plan.layout.unit_range(BlockId(slot), group);
        let len = range.len();
        let in_pool = range.end <= worker.pool.len();
        if in_pool {
            worker.pool[range.start + from..range.start + from + bytes.len()]
                .copy_from_slice(bytes);
        }
        let right = content(self.plan.seed, by.transfer, logical, group, len);
        let intact = in_pool && worker.pool[range] == right;
        worker.ledger.store(by, (logical, group, slot), intact)
    }

    /// The process dies; the one that takes its place has a pool of its own.
    pub(super) fn kill_decode(&mut self, which: usize) {
        for conn in 0..self.conns.len() {
            let state = &self.conns[conn];
            if state.decode == which && state.server.is_there() {
                self.server_hangs_up(conn);
            }
        }
        let next = DecodeWorker::new(&self.plan, self.decodes[which].incarnation + 1);
        let old = std::mem::replace(&mut self.decodes[which], next);
        self.decodes[which].down = true;
        for (leg, waiting) in old.waiting {
            self.verdicts.forgive(Side::Receiver, leg as u64);
            self.try_again(waiting.request);
        }
    }
}
