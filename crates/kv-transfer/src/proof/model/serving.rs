//! What the receiver's task of a connection does with each frame (`serve.rs`).

use super::scenario::Bug;
use super::sender::Up;
use super::world::{World, hash_messages};
use crate::HandoffError;
use crate::message::{Message, Part};
use crate::proof::invariants::Violation;
use crate::proof::ledger::GrantId;
use crate::receiving::Placement;
use std::hash::{Hash, Hasher};

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

    pub(super) fn placement_mut(&mut self) -> Option<&mut Placement> {
        match self {
            Self::Idle => None,
            Self::Reading { placement, .. }
            | Self::Verifying { placement, .. }
            | Self::Counting { placement, .. } => Some(placement),
        }
    }
}

impl World {
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

    pub(super) fn next_frame(&mut self, at: usize, again: bool) -> Result<bool, Violation> {
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
    pub(super) fn read_unit(
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
    pub(super) fn verify_unit(&mut self, at: usize, part: Part, placement: Placement, next: usize) {
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

    pub(super) fn count_unit(
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
}
