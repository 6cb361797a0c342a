//! The prefill side: its engine, and what `connection.rs` does with each action.

use super::scenario::Bug;
use super::serving::{Gone, Task};
use super::world::{PUSH_TIME, World, hash_messages};
use crate::HandoffError;
use crate::message::{FirstToken, Message, PART_UNITS_MAX, Part};
use crate::proof::invariants::one_verdict::Side;
use crate::proof::invariants::{Violation, source_pinned};
use crate::proof::ledger::GrantId;
use crate::sending::{PartPlan, SendAction, Sending, Window};
use estafette_types::{BlockId, TransferId};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Instant;

/// A push, as the prefill engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Push {
    Unborn,
    /// On a connection, after so many words.
    Running {
        conn: usize,
        said: u32,
    },
    Over,
}

/// A frame to the receiver.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Message(Message),
    /// And which of its units are what was sent.
    Part(Part, Vec<bool>),
}

/// A part whose units are being stored or written.
#[derive(Clone, Debug, Hash)]
pub(super) struct Storing {
    plan: PartPlan,
    intact: Vec<bool>,
    stored: usize,
}

/// A connection and both tasks that serve it.
#[derive(Clone, Debug)]
pub(super) struct Conn {
    /// Of the receiver that it leads to.
    pub(super) incarnation: u8,
    pub(super) sending: Sending,
    storing: Option<Storing>,
    pub(super) sender_open: bool,
    /// The network has lost it.
    pub(super) lost: bool,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<Message>,
    pub(super) receiver_end: Gone,
    pub(super) task: Task,
}

impl Hash for Conn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.incarnation, &self.sending, &self.storing).hash(state);
        (self.sender_open, self.lost, self.receiver_end, &self.task).hash(state);
        for up in &self.up {
            match up {
                Up::Message(message) => hash_messages(std::iter::once(message), state),
                Up::Part(part, intact) => {
                    hash_messages(std::iter::once(&Message::Part(part.clone())), state);
                    intact.hash(state);
                }
            }
        }
        hash_messages(self.down.iter(), state);
    }
}

impl World {
    /// Begins a push on the connection there is, or on a new one. The prefill worker has one push of a
    /// transfer at a time.
    pub(super) fn start(&mut self, push: usize, conns_max: usize) -> bool {
        let before = self.pushes[..push].iter().zip(self.scenario.transfers);
        let transfer = self.scenario.transfers[push];
        let mut before = before.map(|(push, of)| match push {
            Push::Unborn => false,
            Push::Running { .. } => *of != transfer,
            Push::Over => true,
        });
        if self.pushes[push] != Push::Unborn || !before.all(|settled| settled) {
            return false;
        }
        let incarnation = self.receiver.incarnation;
        let usable = |conn: &Conn| conn.sender_open && conn.incarnation == incarnation;
        let conn = match self.conns.iter().position(usable) {
            Some(conn) => conn,
            None if self.conns.len() < conns_max => self.connect(),
            None => return false,
        };
        let table = (0..self.scenario.blocks).map(BlockId).collect();
        let deadline = self.now + PUSH_TIME;
        self.conns[conn].sending.start(self.now, TransferId(transfer), table, deadline);
        self.pushes[push] = Push::Running { conn, said: 0 };
        self.verdicts.owe(Side::Sender, push as u64);
        true
    }

    fn connect(&mut self) -> usize {
        let window = Window {
            credit: 1 << 40,
            part: 1 << 20,
            units: PART_UNITS_MAX,
            pool_blocks: self.scenario.slots,
        };
        self.conns.push(Conn {
            incarnation: self.receiver.incarnation,
            sending: Sending::new(self.scenario.layout(), window),
            storing: None,
            sender_open: true,
            lost: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            receiver_end: Gone::No,
            task: Task::Idle,
        });
        self.conns.len() - 1
    }

    /// The engine says the next thing: the first group is final, then the second one and the first token.
    pub(super) fn say(&mut self, push: usize) -> bool {
        let Push::Running { conn, said } = self.pushes[push] else { return false };
        let transfer = TransferId(self.scenario.transfers[push]);
        let blocks = 0..self.scenario.blocks;
        let sending = &mut self.conns[conn].sending;
        match said {
            0 => sending.ready(transfer, 0, blocks),
            1 => {
                sending.ready(transfer, 1, blocks);
                sending.commit(transfer, FirstToken { token: 0, logprob: None });
            }
            _ => return false,
        }
        self.pushes[push] = Push::Running { conn, said: said + 1 };
        true
    }

    pub(super) fn abort(&mut self, push: usize) -> bool {
        let Push::Running { conn, said } = self.pushes[push] else { return false };
        if said > 1 {
            return false;
        }
        // A handle that was dropped says nothing more.
        self.pushes[push] = Push::Running { conn, said: 2 };
        self.conns[conn].sending.abort(TransferId(self.scenario.transfers[push]));
        true
    }

    /// Carries out one action, or one store of the part that the task is at.
    pub(super) fn act(&mut self, conn: usize) -> Result<bool, Violation> {
        if !self.conns[conn].sender_open {
            return Ok(false);
        }
        if self.conns[conn].storing.is_some() {
            self.store_next(conn)?;
            return Ok(true);
        }
        let now = self.now;
        self.conns[conn].sending.on_time(now);
        match self.conns[conn].sending.poll_action() {
            None => return Ok(false),
            Some(SendAction::Message(message)) => self.conns[conn].send(Up::Message(message)),
            Some(SendAction::Part(plan)) => {
                let push = self.running(conn, plan.transfer.0);
                source_pinned::check(push.unwrap_or(0) as u64, push.is_none())?;
                let intact = vec![true; plan.blocks.len()];
                self.conns[conn].storing = Some(Storing { plan, intact, stored: 0 });
            }
            Some(SendAction::Outcome(transfer, _)) => self.outcome(conn, transfer)?,
        }
        Ok(true)
    }

    fn running(&self, conn: usize, transfer: u128) -> Option<usize> {
        let of = |(push, id): (&Push, &u128)| {
            *id == transfer && matches!(push, Push::Running { conn: on, .. } if *on == conn)
        };
        self.pushes.iter().zip(self.scenario.transfers).position(of)
    }

    fn outcome(&mut self, conn: usize, transfer: TransferId) -> Result<(), Violation> {
        let Some(push) = self.running(conn, transfer.0) else {
            return Err(Violation::Verdicts { side: Side::Sender, which: u64::MAX, verdicts: 2 });
        };
        self.pushes[push] = Push::Over;
        self.verdicts.give(Side::Sender, push as u64)
    }

    /// Over shared memory each unit is stored, then the frame goes; over TCP they go together.
    fn store_next(&mut self, conn: usize) -> Result<(), Violation> {
        let Some(storing) = &mut self.conns[conn].storing else { return Ok(()) };
        let PartPlan { transfer, epoch, group, first_block, .. } = storing.plan;
        let at = storing.stored;
        if self.scenario.one_sided && at < storing.plan.blocks.len() {
            storing.stored += 1;
            let (unit, intact) = (storing.plan.blocks[at].1.0, storing.intact[at]);
            // The pool of a process that died is written in vain.
            if self.conns[conn].incarnation != self.receiver.incarnation {
                return Ok(());
            }
            let by = GrantId { transfer: transfer.0, epoch };
            return self.receiver.ledger.store(by, (first_block + at as u32, group, unit), intact);
        }
        if let Some(Storing { plan, intact, .. }) = self.conns[conn].storing.take() {
            let part = plan.header(vec![0; plan.blocks.len()]);
            self.conns[conn].send(Up::Part(part, intact));
        }
        Ok(())
    }

    pub(super) fn damage(&mut self, conn: usize) -> Result<bool, Violation> {
        let Some(storing) = &mut self.conns[conn].storing else { return Ok(false) };
        let at = storing.stored.min(storing.intact.len() - 1);
        if storing.stored > at || !storing.intact[at] {
            return Ok(false);
        }
        storing.intact[at] = false;
        self.store_next(conn)?;
        Ok(true)
    }

    /// Takes a message in; `again`: it stays on the way.
    pub(super) fn hear(&mut self, conn: usize, again: bool) -> Result<bool, Violation> {
        let now = self.now;
        let takes_old_grants = self.scenario.is(Bug::TakesOldGrants);
        let conn = &mut self.conns[conn];
        if !conn.sender_open || conn.storing.is_some() || conn.lost {
            return Ok(false);
        }
        let Some(mut message) = conn.down.pop_front() else { return Ok(false) };
        if again {
            conn.down.push_front(message.clone());
        }
        if let Message::Grant { transfer, attempt, .. } = &mut message
            && takes_old_grants
        {
            *attempt = conn.sending.attempt_of(*transfer).unwrap_or(*attempt);
        }
        match conn.sending.on_message(now, message) {
            Ok(()) => Ok(true),
            Err(error) => Err(Violation::Refused(error.to_string())),
        }
    }

    /// When its time has come, and not before, the next [`act`](Self::act) fails what is late.
    pub(super) fn sender_timer(&mut self, conn: usize) -> bool {
        let conn = &mut self.conns[conn];
        let Some(at) = conn.sending.next_wakeup().filter(|_| conn.sender_open) else {
            return false;
        };
        if conn.storing.is_some() {
            return false;
        }
        self.now = self.now.max(at);
        conn.sending.on_time(self.now);
        true
    }

    /// The peer has left, or wants to.
    pub(super) fn must_close(&self, conn: usize) -> bool {
        let conn = &self.conns[conn];
        conn.lost || conn.receiver_end != Gone::No
    }

    /// The task ends between two actions, never within one.
    pub(super) fn close(&mut self, conn: usize) -> Result<bool, Violation> {
        let closing = &mut self.conns[conn];
        if !closing.sender_open || closing.storing.is_some() {
            return Ok(false);
        }
        closing.sending.close(&HandoffError::gone("closed"));
        closing.sender_open = false;
        closing.down.clear();
        while let Some(action) = self.conns[conn].sending.poll_action() {
            if let SendAction::Outcome(transfer, _) = action {
                self.outcome(conn, transfer)?;
            }
        }
        Ok(true)
    }

    /// A TCP connection breaks; over a Unix socket nothing is lost.
    pub(super) fn lose(&mut self, conn: usize) -> bool {
        let conn = &mut self.conns[conn];
        if self.scenario.one_sided
            || conn.lost
            || !conn.sender_open
            || conn.receiver_end != Gone::No
        {
            return false;
        }
        conn.lost = true;
        conn.up.clear();
        conn.down.clear();
        true
    }

    /// The process dies, also within a store; its sockets close after its threads.
    pub(super) fn crash_sender(&mut self) -> bool {
        let mut any = false;
        for conn in self.conns.iter_mut().filter(|conn| conn.sender_open) {
            conn.sender_open = false;
            conn.storing = None;
            conn.down.clear();
            any = true;
        }
        for (which, push) in self.pushes.iter_mut().enumerate() {
            if matches!(push, Push::Running { .. }) {
                *push = Push::Over;
                self.verdicts.forgive(Side::Sender, which as u64);
            }
        }
        any
    }
}

impl Conn {
    pub(super) fn is_storing(&self) -> bool {
        self.storing.is_some()
    }

    /// Whether the sender's task has something to do.
    pub(super) fn has_work(&self, now: Instant) -> bool {
        let mut sending = self.sending.clone();
        sending.on_time(now);
        self.sender_open && (self.is_storing() || sending.poll_action().is_some())
    }

    /// Whether the receiver's task has something to do.
    pub(super) fn has_frames(&self) -> bool {
        self.receiver_end != Gone::Yes && (!self.up.is_empty() || !matches!(self.task, Task::Idle))
    }

    fn send(&mut self, up: Up) {
        if !self.lost && self.receiver_end != Gone::Yes {
            self.up.push_back(up);
        }
    }
}
