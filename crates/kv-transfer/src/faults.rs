//! A fault injector: a decorator over any transport, for tests.

use crate::link::{Link, Move, Placed, Verdict};
use crate::message::Message;
use crate::pool::{Chunk, write};
use estafette_kernels::KvMemory;
use std::io;
use std::sync::Arc;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One bit of one unit changes on its way.
    FlipBit,
    /// The part's bytes move, but the receiver is not told of them (shared memory) or gets none (TCP).
    DropPart,
    /// The receiver gets the part twice.
    RepeatPart,
    /// The connection breaks instead.
    Cut,
}

/// One fault at the `part`-th part of each connection, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// What.
    pub fault: Fault,
    /// When.
    pub part: u64,
}

/// `inner`, with one fault.
pub(crate) struct FaultyLink {
    pub(crate) inner: Box<dyn Link>,
    pub(crate) plan: FaultPlan,
    pub(crate) placed: u64,
}

impl Link for FaultyLink {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn place(&mut self, mut moves: Vec<Move>) -> io::Result<Placed> {
        let due = self.placed == self.plan.part;
        self.placed += 1;
        if due
            && self.plan.fault == Fault::FlipBit
            && let Some(flipped) = moves.first().and_then(|unit| flipped(&unit.from))
        {
            let intact = std::mem::replace(&mut moves[0].from, flipped).checksum();
            let mut placed = self.inner.place(moves)?;
            placed.checksums[0] = intact;
            return Ok(placed);
        }
        self.inner.place(moves)
    }

    fn rest(&mut self) {
        self.inner.rest();
    }

    fn verdict(&mut self, message: &Message) -> Verdict {
        if !matches!(message, Message::Part(_)) || self.placed != self.plan.part + 1 {
            return self.inner.verdict(message);
        }
        match self.plan.fault {
            Fault::FlipBit => Verdict::Send,
            Fault::DropPart => Verdict::Drop,
            Fault::RepeatPart => Verdict::Twice,
            Fault::Cut => Verdict::Cut,
        }
    }
}

fn flipped(unit: &Chunk) -> Option<Chunk> {
    let bytes = unit.bytes();
    let copy = Arc::new(KvMemory::anonymous(bytes.len()).ok()?);
    write(&copy, 0..bytes.len(), |to| {
        to.copy_from_slice(bytes);
        to[bytes.len() / 2] ^= 0x10;
    })?;
    Some(Chunk::new(&copy, 0..bytes.len()))
}
