//! A fault injector: a decorator over any transport, for tests. It knows what is to go wrong with which frame; [`Injected`]
//! does it to the stream.

use crate::HandoffError;
use crate::link::{Link, Move, Placed, Verdict};
use crate::message::Message;
use crate::pool::{Chunk, write};
use crate::stream::Stream;
use crate::wire::encode;
use estafette_kernels::KvMemory;
use estafette_types::SplitMix64;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What goes wrong with one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It, and with it all that follow, arrives so much later.
    Delay(Duration),
    /// The next frame overtakes it.
    Reorder,
    /// It arrives twice.
    Repeat,
    /// It does not arrive. The bytes of a part are in place all the same over shared memory.
    Drop,
    /// Only the first half of it arrives, and what follows it.
    Truncate,
    /// One bit of its header changes on the way.
    FlipHeaderBit,
    /// One bit of one unit changes on the way; only parts have units.
    FlipBit,
    /// Nothing passes in either direction for so long.
    Partition(Duration),
    /// The sender is gone instead, without a word.
    Kill,
}

/// Which frame it goes wrong with; each counts from 0 on each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The n-th frame that the sender sends.
    Frame(u64),
    /// The n-th part.
    Part(u64),
    /// The n-th frame that the receiver sends: it can be dropped and repeated.
    Answer(u64),
}

/// What goes wrong with each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// The faults, in any order.
    pub faults: Vec<(When, Fault)>,
}

impl FaultPlan {
    /// One fault.
    pub fn one(when: When, fault: Fault) -> Self {
        Self { faults: vec![(when, fault)] }
    }

    /// `count` faults that follow from `seed`, among the first `frames` frames; pauses of `pause` at most.
    pub fn seeded(seed: u64, count: usize, frames: u64, pause: Duration) -> Self {
        let mut rng = SplitMix64::new(seed);
        let fault = |rng: &mut SplitMix64| {
            let time = pause.mul_f64(rng.below(1000) as f64 / 1000.0);
            match rng.below(20) {
                0..3 => Fault::Delay(time),
                3..6 => Fault::Reorder,
                6..9 => Fault::Repeat,
                9..11 => Fault::Drop,
                11 => Fault::Truncate,
                12 => Fault::FlipHeaderBit,
                13..17 => Fault::FlipBit,
                17..19 => Fault::Partition(time),
                _ => Fault::Kill,
            }
        };
        let when = |rng: &mut SplitMix64, fault: Fault| {
            let at = rng.below(frames);
            match fault {
                Fault::FlipBit => When::Part(at),
                Fault::Drop | Fault::Repeat if rng.below(3) == 0 => When::Answer(at),
                _ => When::Frame(at),
            }
        };
        let planned = (0..count).map(|_| {
            let fault = fault(&mut rng);
            (when(&mut rng, fault), fault)
        });
        Self { faults: planned.collect() }
    }
}

/// `inner`, with faults.
pub(crate) struct FaultyLink {
    inner: Box<dyn Link>,
    plan: FaultPlan,
    frames: u64,
    /// Parts that were placed.
    parts: u64,
    answers: u64,
}

impl FaultyLink {
    pub(crate) fn new(inner: Box<dyn Link>, plan: FaultPlan) -> Self {
        Self { inner, plan, frames: 0, parts: 0, answers: 0 }
    }

    fn due(&self, when: impl Fn(When) -> bool) -> Option<Fault> {
        self.plan.faults.iter().find(|(at, _)| when(*at)).map(|(_, fault)| *fault)
    }
}

impl Link for FaultyLink {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn place(&mut self, mut moves: Vec<Move>) -> io::Result<Placed> {
        let part = self.parts;
        self.parts += 1;
        if self.due(|at| at == When::Part(part)) == Some(Fault::FlipBit)
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
        let (frame, part) = (self.frames, self.parts.wrapping_sub(1));
        self.frames += 1;
        let is_part = matches!(message, Message::Part(_));
        let here = |at| at == When::Frame(frame) || is_part && at == When::Part(part);
        match self.due(here) {
            None | Some(Fault::FlipBit) => self.inner.verdict(message),
            Some(fault) => Verdict::Fault(fault),
        }
    }

    fn hears(&mut self, message: &Message) -> Verdict {
        let answer = self.answers;
        self.answers += 1;
        match self.due(|at| at == When::Answer(answer)) {
            None => self.inner.hears(message),
            Some(fault) => Verdict::Fault(fault),
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

/// Frames that an injected fault holds back. They are copies: their blocks may be somebody else's when they leave.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    late: VecDeque<(Instant, Vec<u8>)>,
    overtaken: Option<Vec<u8>>,
}

impl Injected {
    /// Sends a frame as `fault` has it, or behind those that are late.
    pub(crate) async fn send(
        &mut self,
        fault: Option<Fault>,
        stream: &Stream,
        message: &Message,
        chunks: &[Chunk],
        limit: Duration,
    ) -> Result<(), HandoffError> {
        if fault.is_none() && self.is_empty() {
            return stream.send(message, chunks, limit).await;
        }
        let mut frame = encode(message);
        let header = frame.len();
        chunks.iter().for_each(|chunk| frame.extend_from_slice(chunk.bytes()));
        let mut time = Instant::now();
        let mut times = 1;
        match fault {
            None | Some(Fault::FlipBit) => {}
            Some(Fault::Delay(by)) => time += by,
            Some(Fault::Repeat) => times = 2,
            Some(Fault::Drop) => return Ok(()),
            Some(Fault::Truncate) => frame.truncate(frame.len() / 2),
            Some(Fault::FlipHeaderBit) => frame[header / 2] ^= 1,
            Some(Fault::Reorder) if self.overtaken.is_none() => {
                self.overtaken = Some(frame);
                return Ok(());
            }
            Some(Fault::Reorder) => {}
            Some(Fault::Partition(time)) => tokio::time::sleep(time).await,
            Some(Fault::Kill) => return Err(HandoffError::gone("killed by the fault injector")),
        }
        let time = self.late.back().map_or(time, |(last, _)| time.max(*last));
        for _ in 0..times {
            self.late.push_back((time, frame.clone()));
        }
        self.late.extend(self.overtaken.take().map(|frame| (time, frame)));
        self.flush(stream, limit).await
    }

    fn is_empty(&self) -> bool {
        self.late.is_empty() && self.overtaken.is_none()
    }

    /// Sends what was held back long enough.
    pub(crate) async fn flush(
        &mut self,
        stream: &Stream,
        limit: Duration,
    ) -> Result<(), HandoffError> {
        let now = Instant::now();
        while self.late.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, frame)) = self.late.pop_front()
        {
            stream.send_frame(&frame, &[], limit).await?;
        }
        Ok(())
    }

    /// When [`flush`](Self::flush) has something to do.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.late.front().map(|(at, _)| *at)
    }
}
