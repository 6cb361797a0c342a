//! The receiver's end of a connection: what `serve.rs` does.

use super::link::Reader;
use super::plan::{Bug, MILLI};
use super::prefill::IO_TIME;
use super::world::{Event, Step, World};
use crate::HandoffError;
use crate::message::{Hello, Message, Part, VERSION};
use crate::proof::invariants::Violation;
use crate::proof::ledger::GrantId;
use crate::receiving::Placement;
use estafette_types::Incarnation;
use xxhash_rust::xxh3::xxh3_64;

/// How far the receiver's end of a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// The hello has not come.
    #[default]
    New,
    Open,
    /// It wants to leave and waits for the sender to go.
    Leaving,
    Gone,
}

/// Units on their way out of the socket.
#[derive(Debug)]
struct Reading {
    part: Part,
    placement: Placement,
    unit: usize,
    filled: usize,
}

/// The receiver's end of a connection.
#[derive(Debug, Default)]
pub(super) struct Server {
    end: End,
    reader: Reader,
    reading: Option<Reading>,
}

impl Server {
    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Open, or waiting for the sender to go.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.end, End::Open | End::Leaving)
    }
}

impl World {
    /// Bytes, or the end, come to the receiver.
    pub(super) fn bytes_up(&mut self, conn: usize) -> Step {
        let decode = self.conns[conn].decode;
        if self.defer_decode(decode, Event::Up(conn)) {
            return Ok(());
        }
        let now = self.now;
        let bytes = self.conns[conn].up.read(now);
        // A process that is not there refuses, and nobody reads for one that has died.
        let there = self.conns[conn].incarnation == self.decodes[decode].incarnation;
        if self.decodes[decode].down || (!there && self.conns[conn].server.end != End::New) {
            self.server_hangs_up(conn);
            return Ok(());
        }
        if matches!(self.conns[conn].server.end, End::New | End::Open) {
            self.conns[conn].server.reader.add(bytes);
            if let Err(error) = self.take_frames(conn) {
                match error {
                    Broken::Protocol(error) => self.server_breaks(conn, &error)?,
                    Broken::Invariant(violation) => return Err(violation),
                }
            }
        }
        if self.conns[conn].up.is_at_end() {
            return self.server_ends(conn);
        }
        let waiting = self.conns[conn].server.reader.waiting() as u64;
        let within = self.conns[conn].server.reading.as_ref().map_or(0, |r| r.filled as u64 + 1);
        if waiting + within > 0 {
            self.at(self.now + IO_TIME, Event::UpLimit(conn, waiting + within));
        }
        Ok(())
    }

    pub(super) fn up_limit(&mut self, conn: usize, was: u64) -> Step {
        let server = &self.conns[conn].server;
        let within = server.reading.as_ref().map_or(0, |r| r.filled as u64 + 1);
        if server.end == End::Open && server.reader.waiting() as u64 + within == was {
            return self.server_breaks(conn, &HandoffError::gone("it stopped within a frame"));
        }
        Ok(())
    }

    pub(super) fn take_frames(&mut self, conn: usize) -> Result<(), Broken> {
        loop {
            if self.conns[conn].server.reading.is_some() && !self.read_units(conn)? {
                return Ok(());
            }
            let Some(message) = self.conns[conn].server.reader.message()? else { return Ok(()) };
            if self.conns[conn].server.end == End::New {
                self.welcome(conn, message)?;
                continue;
            }
            self.take_frame(conn, message)?;
        }
    }

    pub(super) fn welcome(&mut self, conn: usize, message: Message) -> Result<(), Broken> {
        let worker = &self.decodes[self.conns[conn].decode];
        let Message::Hello(Hello { version: VERSION, receiver, layout, .. }) = message else {
            return Err(HandoffError::protocol("the first message is not a hello").into());
        };
        let found = Incarnation(worker.incarnation);
        // So that what was meant for another process is refused and answered.
        self.conns[conn].server.end = End::Open;
        if receiver != found {
            return Err(HandoffError::StalePeer.into());
        }
        self.plan.layout.matches(&layout)?;
        let credit_bytes = self.plan.limits.credit_bytes;
        let pool_bytes = self.plan.layout.kv.total_bytes() as u64;
        let welcome = Message::Welcome { receiver: found, credit_bytes, pool_bytes };
        self.write(conn, false, &welcome, &[]);
        Ok(())
    }

    pub(super) fn take_frame(&mut self, conn: usize, message: Message) -> Result<(), Broken> {
        let (now, decode, one_sided) =
            (self.instant(), self.conns[conn].decode, self.conns[conn].one_sided);
        let machine = &mut self.decodes[decode].machine;
        let Message::Part(part) = message else {
            machine.on_message(now, conn as u64, one_sided, message)?;
            return Ok(self.carry_out(decode)?);
        };
        let placement = machine.place(conn as u64, &part)?;
        if one_sided {
            return Ok(self.finish_part(conn, &part, &placement)?);
        }
        let reading = Reading { part, placement, unit: 0, filled: 0 };
        self.conns[conn].server.reading = Some(reading);
        Ok(())
    }

    /// Units out of the socket into their slots, as far as they have come; true when the part is complete.
    pub(super) fn read_units(&mut self, conn: usize) -> Result<bool, Broken> {
        let decode = self.conns[conn].decode;
        let Some(mut reading) = self.conns[conn].server.reading.take() else { return Ok(true) };
        let len = self.plan.layout.unit_bytes(reading.part.group);
        while reading.unit < reading.placement.to.len() {
            let bytes = self.conns[conn].server.reader.take(len - reading.filled);
            if bytes.is_empty() {
                self.conns[conn].server.reading = Some(reading);
                return Ok(false);
            }
            let open = reading.placement.gate.as_ref().is_some_and(|gate| gate.enter().is_some());
            if let Some(slot) = reading.placement.to[reading.unit].filter(|_| open) {
                let by = GrantId { transfer: reading.part.transfer.0, epoch: reading.part.epoch };
                let logical = reading.part.first_block + reading.unit as u32;
                let unit = (logical, reading.part.group, slot.0);
                self.store(decode, by, unit, reading.filled, &bytes)?;
            }
            reading.filled += bytes.len();
            if reading.filled == len {
                (reading.unit, reading.filled) = (reading.unit + 1, 0);
            }
        }
        self.finish_part(conn, &reading.part, &reading.placement)?;
        Ok(true)
    }

    /// Gives the credit back and compares the checksums.
    pub(super) fn finish_part(&mut self, conn: usize, part: &Part, placement: &Placement) -> Step {
        let (decode, layout) = (self.conns[conn].decode, self.plan.layout.clone());
        let bytes = (layout.unit_bytes(part.group) * part.checksums.len()) as u64;
        if self.conns[conn].server.end == End::Open {
            self.write(conn, false, &Message::Ack { bytes }, &[]);
        }
        for ((block, to), checksum) in (part.first_block..).zip(&placement.to).zip(&part.checksums)
        {
            let open = placement.gate.as_ref().is_some_and(|gate| gate.enter().is_some());
            let Some(slot) = to.filter(|_| open) else { continue };
            let worker = &mut self.decodes[decode];
            let range = layout.unit_range(slot, part.group);
            let unchecked = self.plan.bug == Some(Bug::UncheckedUnits);
            if unchecked || xxh3_64(&worker.pool[range]) == *checksum {
                let by = GrantId { transfer: part.transfer.0, epoch: part.epoch };
                worker.ledger.verified(by, block, part.group);
                worker.machine.count(conn as u64, part, block);
            } else {
                self.log(|| format!("block {block} of {:?} is damaged", part.transfer));
                self.decodes[decode].machine.corrupt(conn as u64, part, block);
            }
            self.carry_out(decode)?;
        }
        Ok(())
    }

    /// The receiver wants to leave: over a Unix socket it waits for the sender to go, over TCP it is gone.
    pub(super) fn server_breaks(&mut self, conn: usize, error: &HandoffError) -> Step {
        let decode = self.conns[conn].decode;
        self.log(|| format!("conn {conn}: the receiver leaves: {error}"));
        self.decodes[decode].machine.on_broken(conn as u64, error);
        self.carry_out(decode)?;
        self.write(conn, false, &Message::Reject(error.clone()), &[]);
        let server = &mut self.conns[conn].server;
        (server.end, server.reading) = (End::Leaving, None);
        let after = self.plan.rng.below(MILLI);
        let at = self.conns[conn].down.close(self.now + after);
        self.at(at, Event::Down(conn));
        if !self.conns[conn].one_sided {
            return self.server_ends(conn);
        }
        Ok(())
    }

    /// The end of the stream.
    pub(super) fn server_ends(&mut self, conn: usize) -> Step {
        let decode = self.conns[conn].decode;
        if self.conns[conn].server.end == End::Gone {
            return Ok(());
        }
        self.conns[conn].server.reading = None;
        self.decodes[decode].machine.on_broken(conn as u64, &HandoffError::gone("closed"));
        self.decodes[decode].machine.on_closed(conn as u64);
        self.server_hangs_up(conn);
        self.carry_out(decode)
    }

    pub(super) fn server_hangs_up(&mut self, conn: usize) {
        self.conns[conn].server.end = End::Gone;
        let after = self.plan.rng.below(MILLI);
        let at = self.conns[conn].down.close(self.now + after);
        self.at(at, Event::Down(conn));
    }
}

/// Why reading went no further.
pub(super) enum Broken {
    Protocol(HandoffError),
    Invariant(Violation),
}

impl From<HandoffError> for Broken {
    fn from(error: HandoffError) -> Self {
        Self::Protocol(error)
    }
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self::Invariant(violation)
    }
}
