//! The decode side: its engine (`receive.rs` of the decode worker), and what `serve.rs` does with each frame.

use super::scenario::{Bug, GROUPS, Scenario};
use super::sender::Up;
use super::world::{LEG_TIME, World, hash_messages};
use crate::message::{Message, Part};
use crate::proof::invariants::one_verdict::Side;
use crate::proof::invariants::{Violation, whole};
use crate::proof::ledger::{GrantId, Ledger};
use crate::receiving::{Placement, ReceiveAction, Receiving};
use crate::{HandoffError, ReceiverEvent};
use estafette_types::{BlockId, SequenceId, TransferId};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// A decode leg, as the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leg {
    Absent,
    /// Its KV is awaited.
    Waiting {
        asking: bool,
        grant: Option<GrantId>,
    },
    /// It is over, but its slots may still be written.
    Fencing {
        grant: GrantId,
        verified: u32,
    },
    Over {
        completed: bool,
    },
}

/// How far the receiver's end of a connection has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gone {
    No,
    /// It wants to leave and waits for the sender to go.
    Leaving,
    Yes,
}

/// What the receiver's task of a connection is at.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Idle,
    /// Reading units into their place (TCP).
    Reading {
        part: Part,
        intact: Vec<bool>,
        placement: Placement,
        next: usize,
    },
    /// Comparing checksums.
    Verifying {
        part: Part,
        placement: Placement,
        next: usize,
    },
    /// A checksum has been compared and is about to be told.
    Counting {
        part: Part,
        placement: Placement,
        next: usize,
        right: bool,
    },
}

impl Hash for Task {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (kind, part, placement, next) = match self {
            Self::Idle => return 0.hash(state),
            Self::Reading { part, intact, placement, next } => {
                intact.hash(state);
                (1, part, placement, next)
            }
            Self::Verifying { part, placement, next } => (2, part, placement, next),
            Self::Counting { part, placement, next, right } => {
                (3 + i32::from(*right), part, placement, next)
            }
        };
        (kind, next, &placement.to, &placement.gate).hash(state);
        hash_messages(std::iter::once(&Message::Part(part.clone())), state);
    }
}

/// The decode process.
#[derive(Clone, Debug)]
pub(super) struct ReceiverSide {
    pub(super) incarnation: u8,
    pub(super) machine: Receiving,
    pub(super) ledger: Ledger,
    pub(super) legs: Vec<Leg>,
    events: VecDeque<ReceiverEvent>,
}

impl Hash for ReceiverSide {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.incarnation, &self.machine, &self.ledger, &self.legs).hash(state);
        for event in &self.events {
            match event {
                ReceiverEvent::GrantRequested { transfer, sequence } => {
                    (0, transfer, sequence, 0).hash(state);
                }
                ReceiverEvent::Completed { transfer, sequence, .. } => {
                    (1, transfer, sequence, 0).hash(state);
                }
                ReceiverEvent::Failed { transfer, sequence, verified_blocks, .. } => {
                    (2, transfer, sequence, *verified_blocks).hash(state);
                }
            }
        }
    }
}

impl ReceiverSide {
    pub(super) fn new(scenario: &Scenario, incarnation: u8, legs: Vec<Leg>) -> Self {
        Self {
            incarnation,
            machine: Receiving::new(scenario.layout(), Scenario::limits()),
            ledger: Ledger::new(scenario.slots, GROUPS),
            legs,
            events: VecDeque::new(),
        }
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }
}

impl World {
    /// A leg comes. One transfer has one leg at a time; a writer that must be waited for refuses the next.
    pub(super) fn expect(&mut self, leg: usize) -> Result<bool, Violation> {
        let transfers = self.scenario.transfers;
        let mut before = self.receiver.legs[..leg].iter().zip(transfers);
        let settled = before.all(|(other, of)| match other {
            Leg::Absent => false,
            Leg::Waiting { .. } => *of != transfers[leg],
            Leg::Fencing { .. } | Leg::Over { .. } => true,
        });
        if self.receiver.legs[leg] != Leg::Absent || !settled {
            return Ok(false);
        }
        let (transfer, sequence) = (TransferId(transfers[leg]), SequenceId(leg as u64));
        let deadline = self.now + LEG_TIME;
        self.verdicts.owe(Side::Receiver, leg as u64);
        match self.receiver.machine.expect(transfer, sequence, deadline) {
            Ok(()) => self.receiver.legs[leg] = Leg::Waiting { asking: false, grant: None },
            Err(_) => {
                self.receiver.legs[leg] = Leg::Over { completed: false };
                self.verdicts.give(Side::Receiver, leg as u64)?;
            }
        }
        self.carry_out()?;
        Ok(true)
    }

    /// The leg that an event is for. Whoever is named, unless the bug is back.
    fn leg_of(&self, transfer: TransferId, sequence: SequenceId) -> Option<usize> {
        let waits = |leg: usize| matches!(self.receiver.legs[leg], Leg::Waiting { .. });
        let named = sequence.0 as usize;
        if self.scenario.is(Bug::TakesOldEvents) {
            let mut legs = 0..self.receiver.legs.len();
            return legs.find(|leg| self.scenario.transfers[*leg] == transfer.0 && waits(*leg));
        }
        waits(named).then_some(named)
    }

    /// The engine takes its next event.
    pub(super) fn engine(&mut self) -> Result<bool, Violation> {
        let Some(event) = self.receiver.events.pop_front() else { return Ok(false) };
        match event {
            ReceiverEvent::GrantRequested { transfer, sequence } => {
                if let Some(leg) = self.leg_of(transfer, sequence)
                    && let Leg::Waiting { asking, .. } = &mut self.receiver.legs[leg]
                {
                    *asking = true;
                }
            }
            ReceiverEvent::Completed { transfer, sequence, .. } => {
                if let Some(leg) = self.leg_of(transfer, sequence) {
                    self.adopt(leg)?;
                }
            }
            ReceiverEvent::Failed { transfer, sequence, verified_blocks, .. } => {
                if let Some(leg) = self.leg_of(transfer, sequence) {
                    self.give_up(leg, verified_blocks)?;
                }
            }
        }
        self.give_grants()?;
        Ok(true)
    }

    fn adopt(&mut self, leg: usize) -> Result<(), Violation> {
        let Leg::Waiting { grant, .. } = self.receiver.legs[leg] else { return Ok(()) };
        let Some(grant) = grant else {
            let transfer = self.scenario.transfers[leg];
            let nothing = GrantId { transfer, epoch: 0 };
            return Err(Violation::NotWhole { grant: nothing, logical: 0, group: 0 });
        };
        whole::check(&self.receiver.ledger, grant, u32::MAX)?;
        self.receiver.ledger.adopt(grant);
        // The answer is short: its slots are free at once, which is when a late store does harm.
        self.receiver.ledger.free_sequence(grant);
        self.receiver.legs[leg] = Leg::Over { completed: true };
        self.verdicts.give(Side::Receiver, leg as u64)
    }

    /// The engine gives a leg up of its own accord.
    pub(super) fn cancel(&mut self, leg: usize) -> Result<bool, Violation> {
        if !matches!(self.receiver.legs[leg], Leg::Waiting { .. }) {
            return Ok(false);
        }
        self.give_up(leg, 0)?;
        self.give_grants()?;
        Ok(true)
    }

    /// Takes the slots back, now or when nobody can write to them.
    fn give_up(&mut self, leg: usize, verified: u32) -> Result<(), Violation> {
        let Leg::Waiting { grant, .. } = self.receiver.legs[leg] else { return Ok(()) };
        let transfer = TransferId(self.scenario.transfers[leg]);
        let revoked = self.receiver.machine.cancel(transfer, &HandoffError::Aborted);
        let verified = verified.max(revoked);
        let fenced = !self.receiver.machine.is_revoking(transfer);
        self.receiver.legs[leg] = match grant {
            Some(grant) if fenced || self.scenario.is(Bug::FreesAtOnce) => {
                self.keep_and_free(grant, verified)?;
                Leg::Over { completed: false }
            }
            Some(grant) => Leg::Fencing { grant, verified },
            None => Leg::Over { completed: false },
        };
        self.carry_out()?;
        self.verdicts.give(Side::Receiver, leg as u64)
    }

    /// The leading blocks that are verified are kept for others; then everything is free.
    fn keep_and_free(&mut self, grant: GrantId, verified: u32) -> Result<(), Violation> {
        whole::check(&self.receiver.ledger, grant, verified)?;
        self.receiver.ledger.free_grant(grant);
        Ok(())
    }

    /// Gives every grant that there is room for, oldest leg first.
    fn give_grants(&mut self) -> Result<(), Violation> {
        for leg in 0..self.receiver.legs.len() {
            let Leg::Waiting { asking: true, grant: None } = self.receiver.legs[leg] else {
                continue;
            };
            let count = self.scenario.blocks as usize;
            let Some(free) = self.receiver.ledger.free(count) else { return Ok(()) };
            let blocks: Vec<(u32, u32)> = (0..).zip(free).collect();
            let asked: Vec<_> = blocks.iter().map(|(l, p)| (*l, BlockId(*p))).collect();
            let transfer = TransferId(self.scenario.transfers[leg]);
            if self.receiver.machine.grant(self.now, transfer, &asked).is_err() {
                self.give_up(leg, 0)?;
                continue;
            }
            let epoch = self.receiver.machine.grant_of(transfer).map_or(0, |(_, epoch)| epoch);
            let grant = GrantId { transfer: transfer.0, epoch };
            self.receiver.ledger.grant(grant, blocks);
            self.receiver.legs[leg] = Leg::Waiting { asking: false, grant: Some(grant) };
            self.carry_out()?;
        }
        Ok(())
    }

    /// What the shell does under its lock.
    fn carry_out(&mut self) -> Result<(), Violation> {
        while let Some(action) = self.receiver.machine.poll_action() {
            match action {
                ReceiveAction::Send(conn, message) => {
                    let conn = &mut self.conns[conn as usize];
                    if conn.sender_open && !conn.lost && conn.receiver_end == Gone::No {
                        conn.down.push_back(message);
                    }
                }
                ReceiveAction::Event(event) => self.receiver.events.push_back(event),
                ReceiveAction::Fenced(transfer) => self.fenced(transfer)?,
            }
        }
        Ok(())
    }

    fn fenced(&mut self, transfer: TransferId) -> Result<(), Violation> {
        for leg in 0..self.receiver.legs.len() {
            if let Leg::Fencing { grant, verified } = self.receiver.legs[leg]
                && grant.transfer == transfer.0
            {
                self.keep_and_free(grant, verified)?;
                self.receiver.legs[leg] = Leg::Over { completed: false };
            }
        }
        self.give_grants()
    }

    pub(super) fn receiver_timer(&mut self) -> Result<bool, Violation> {
        let Some(at) = self.receiver.machine.next_wakeup() else { return Ok(false) };
        self.now = self.now.max(at);
        self.receiver.machine.on_time(self.now);
        self.carry_out()?;
        Ok(true)
    }

    /// Goes on with the part at hand, or takes the next frame in; `again`: the frame stays on the way.
    pub(super) fn take_up(&mut self, at: usize, again: bool) -> Result<bool, Violation> {
        let conn = &mut self.conns[at];
        if conn.receiver_end != Gone::No {
            // Whatever comes is thrown away.
            return Ok(!again
                && conn.receiver_end == Gone::Leaving
                && conn.up.pop_front().is_some());
        }
        match std::mem::replace(&mut conn.task, Task::Idle) {
            Task::Idle => self.next_frame(at, again),
            task if again => {
                conn.task = task;
                Ok(false)
            }
            Task::Reading { part, intact, placement, next } => {
                self.read_unit(at, part, intact, placement, next)?;
                Ok(true)
            }
            Task::Verifying { part, placement, next } => {
                self.verify_unit(at, part, placement, next);
                Ok(true)
            }
            Task::Counting { part, placement, next, right } => {
                self.count_unit(at, part, placement, next, right)?;
                Ok(true)
            }
        }
    }

    fn next_frame(&mut self, at: usize, again: bool) -> Result<bool, Violation> {
        let Some(up) = self.conns[at].up.pop_front() else { return Ok(false) };
        if again {
            self.conns[at].up.push_front(up.clone());
        }
        let refused = |error: HandoffError| Violation::Refused(error.to_string());
        let one_sided = self.scenario.one_sided;
        match up {
            Up::Message(message) => {
                let machine = &mut self.receiver.machine;
                machine.on_message(self.now, at as u64, one_sided, message).map_err(refused)?;
                self.carry_out()?;
            }
            Up::Part(part, intact) => {
                let placement = self.receiver.machine.place(at as u64, &part).map_err(refused)?;
                self.conns[at].task = if one_sided {
                    Task::Verifying { part, placement, next: 0 }.after_nothing()
                } else {
                    Task::Reading { part, intact, placement, next: 0 }
                };
            }
        }
        Ok(true)
    }

    /// One unit comes out of the socket, into its slot while the gate is open.
    fn read_unit(
        &mut self,
        at: usize,
        part: Part,
        intact: Vec<bool>,
        placement: Placement,
        next: usize,
    ) -> Result<(), Violation> {
        let open = placement.gate.as_ref().is_some_and(|gate| gate.enter().is_some());
        if let Some(slot) = placement.to[next].filter(|_| open) {
            let by = GrantId { transfer: part.transfer.0, epoch: part.epoch };
            let unit = (part.first_block + next as u32, part.group, slot.0);
            self.receiver.ledger.store(by, unit, intact[next])?;
        }
        let next = next + 1;
        self.conns[at].task = if next < placement.to.len() {
            Task::Reading { part, intact, placement, next }
        } else {
            Task::Verifying { part, placement, next: 0 }.after_nothing()
        };
        Ok(())
    }

    /// One checksum is compared while the gate is open.
    fn verify_unit(&mut self, at: usize, part: Part, placement: Placement, next: usize) {
        let open = placement.gate.as_ref().is_some_and(|gate| gate.enter().is_some());
        let Some(slot) = placement.to[next].filter(|_| open) else {
            // A shut gate ends the part; a unit that is not wanted is passed over before.
            return;
        };
        let group = part.group as usize;
        let found = self.receiver.ledger.slots[slot.0 as usize].units[group];
        let logical = part.first_block + next as u32;
        let right = found.is_some_and(|stored| stored.intact && stored.logical == logical);
        self.conns[at].task = Task::Counting { part, placement, next, right };
    }

    fn count_unit(
        &mut self,
        at: usize,
        part: Part,
        placement: Placement,
        next: usize,
        right: bool,
    ) -> Result<(), Violation> {
        let block = part.first_block + next as u32;
        let (mut conn, mut told) = (at as u64, part.clone());
        if self.scenario.is(Bug::CountsOldGrants)
            && let Some((now_on, epoch)) = self.receiver.machine.grant_of(part.transfer)
        {
            (conn, told.epoch) = (now_on, epoch);
        }
        if right {
            let by = GrantId { transfer: part.transfer.0, epoch: part.epoch };
            self.receiver.ledger.verified(by, block, part.group);
            self.receiver.machine.count(conn, &told, block);
        } else {
            self.receiver.machine.corrupt(conn, &told, block);
        }
        self.conns[at].task = Task::Verifying { part, placement, next: next + 1 }.after_nothing();
        self.carry_out()
    }

    /// The stream ends, once everything on it has been taken in.
    pub(super) fn end(&mut self, at: usize) -> Result<bool, Violation> {
        let conn = &mut self.conns[at];
        let idle = conn.lost || matches!(conn.task, Task::Idle);
        if conn.sender_open && !conn.lost
            || conn.receiver_end == Gone::Yes
            || !conn.up.is_empty()
            || !idle
        {
            return Ok(false);
        }
        conn.task = Task::Idle;
        conn.receiver_end = Gone::Yes;
        self.receiver.machine.on_broken(at as u64, &HandoffError::gone("closed"));
        self.carry_out()?;
        self.receiver.machine.on_closed(at as u64);
        self.carry_out()?;
        Ok(true)
    }

    /// The receiver wants to leave: over a Unix socket it waits for the sender to go, over TCP it is gone.
    pub(super) fn break_off(&mut self, at: usize) -> Result<bool, Violation> {
        let conn = &mut self.conns[at];
        if conn.receiver_end != Gone::No || !matches!(conn.task, Task::Idle) {
            return Ok(false);
        }
        conn.receiver_end = Gone::Leaving;
        self.receiver.machine.on_broken(at as u64, &HandoffError::gone("it reads too slowly"));
        self.carry_out()?;
        if !self.scenario.one_sided {
            self.conns[at].receiver_end = Gone::Yes;
            self.conns[at].up.clear();
            self.receiver.machine.on_closed(at as u64);
            self.carry_out()?;
        }
        Ok(true)
    }

    /// The process dies and another takes its place, with a pool of its own.
    pub(super) fn crash_receiver(&mut self) -> bool {
        let mut legs = self.receiver.legs.clone();
        for (which, leg) in legs.iter_mut().enumerate() {
            if matches!(leg, Leg::Waiting { .. }) {
                self.verdicts.forgive(Side::Receiver, which as u64);
            }
            if *leg != Leg::Absent {
                *leg = Leg::Over { completed: false };
            }
        }
        self.receiver = ReceiverSide::new(&self.scenario, self.receiver.incarnation + 1, legs);
        for conn in &mut self.conns {
            conn.receiver_end = Gone::Yes;
            conn.up.clear();
            conn.task = Task::Idle;
        }
        true
    }
}

impl Task {
    /// Passes over units that are not wanted; the part is done when none is left.
    fn after_nothing(self) -> Self {
        let Self::Verifying { part, placement, mut next } = self else { return self };
        while placement.to.get(next).is_some_and(Option::is_none) {
            next += 1;
        }
        if next < placement.to.len() && placement.gate.is_some() {
            Self::Verifying { part, placement, next }
        } else {
            Self::Idle
        }
    }
}
