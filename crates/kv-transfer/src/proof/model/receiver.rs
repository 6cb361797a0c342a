//! The decode side: its engine (`receive.rs` of the decode worker) around the machine.

use super::scenario::{Bug, GROUPS, Scenario};
use super::serving::{Gone, Task};
use super::world::{LEG_TIME, World};
use crate::proof::invariants::one_verdict::Side;
use crate::proof::invariants::{Violation, whole};
use crate::proof::ledger::{GrantId, Ledger};
use crate::receiving::{ReceiveAction, Receiving};
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
    pub(super) fn leg_of(&self, transfer: TransferId, sequence: SequenceId) -> Option<usize> {
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

    pub(super) fn adopt(&mut self, leg: usize) -> Result<(), Violation> {
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
    pub(super) fn give_up(&mut self, leg: usize, verified: u32) -> Result<(), Violation> {
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
    pub(super) fn keep_and_free(&mut self, grant: GrantId, verified: u32) -> Result<(), Violation> {
        whole::check(&self.receiver.ledger, grant, verified)?;
        self.receiver.ledger.free_grant(grant);
        Ok(())
    }

    /// Gives every grant that there is room for, oldest leg first.
    pub(super) fn give_grants(&mut self) -> Result<(), Violation> {
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
    pub(super) fn carry_out(&mut self) -> Result<(), Violation> {
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

    pub(super) fn fenced(&mut self, transfer: TransferId) -> Result<(), Violation> {
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
