//! The sender's end of a connection: what `pusher.rs` and `connection.rs` do.

use super::link::{Pipe, Reader};
use super::plan::{MILLI, Micros, SECOND};
use super::prefill::IO_TIME;
use super::server::Server;
use super::world::{Conn, Event, Step, World};
use crate::message::{Hello, Message, PART_UNITS_MAX, VERSION};
use crate::proof::invariants::one_verdict::Side;
use crate::proof::invariants::source_pinned;
use crate::proof::ledger::GrantId;
use crate::sending::{PartPlan, SendAction, Sending, Window};
use crate::{HandoffError, PushStats};
use estafette_types::{BlockId, Incarnation, TransferId};
use std::collections::VecDeque;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// How long connecting may take.
const CONNECT_TIME: Micros = 3 * SECOND;

/// A part whose units are being stored.
#[derive(Debug)]
pub(super) struct Storing {
    pub(super) plan: PartPlan,
    pub(super) checksums: Vec<u64>,
    pub(super) stored: usize,
}

/// The sender's end of a connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) open: bool,
    pub(super) attached: bool,
    pub(super) sending: Sending,
    /// Pushes that wait until it is attached: push, request's transfer.
    pub(super) starts: Vec<usize>,
    pub(super) storing: Option<Storing>,
    pub(super) inbox: VecDeque<Message>,
    pub(super) reader: Reader,
    pub(super) awake: bool,
}

impl World {
    /// The connection there is, or a new one.
    pub(super) fn connection(&mut self, prefill: usize, decode: usize) -> usize {
        let incarnation = self.decodes[decode].incarnation;
        let usable = |conn: &Conn| {
            conn.client.open
                && (conn.prefill, conn.decode, conn.incarnation) == (prefill, decode, incarnation)
        };
        if let Some(conn) = self.conns.iter().position(usable) {
            return conn;
        }
        let unit = self.plan.layout.unit_bytes(0);
        let window = Window {
            credit: self.plan.limits.credit_bytes,
            part: self.plan.part_units * unit,
            units: PART_UNITS_MAX,
            pool_blocks: self.plan.layout.kv.num_blocks,
        };
        let client = Client {
            open: true,
            attached: false,
            sending: Sending::new(self.plan.layout.clone(), window),
            starts: Vec::new(),
            storing: None,
            inbox: VecDeque::new(),
            reader: Reader::default(),
            awake: false,
        };
        let (up, down) = (Pipe::default(), Pipe::default());
        let one_sided = self.plan.one_sided[prefill][decode];
        let server = Server::default();
        self.conns.push(Conn { prefill, decode, incarnation, one_sided, up, down, client, server });
        let conn = self.conns.len() - 1;
        let hello = Hello {
            version: VERSION,
            sender: Incarnation(1),
            receiver: Incarnation(incarnation),
            layout: self.plan.layout.clone(),
            boot_id: String::new(),
        };
        self.write(conn, true, &Message::Hello(hello), &[]);
        self.at(self.now + CONNECT_TIME, Event::ConnectLimit(conn));
        conn
    }

    pub(super) fn begin(&mut self, conn: usize, push: usize) {
        let request = self.plan.requests[self.pushes[push]];
        let deadline = self.instant() + Duration::from_micros(request.push_time);
        let now = self.instant();
        let transfer = TransferId(self.pushes[push] as u128);
        let running = self.prefills[request.prefill].running.get(&push);
        let table = running.map(|running| running.table.iter().map(|b| BlockId(*b)).collect());
        self.conns[conn].client.sending.start(now, transfer, table.unwrap_or_default(), deadline);
        // What the engine has said meanwhile.
        self.tell(push, 0);
        self.wake(conn);
    }

    pub(super) fn wake(&mut self, conn: usize) {
        let client = &mut self.conns[conn].client;
        if client.open && !client.awake {
            client.awake = true;
            self.soon(30, Event::Client(conn));
        }
    }

    /// The sender's task does one thing.
    pub(super) fn client_runs(&mut self, conn: usize) -> Step {
        if self.defer_prefill(self.conns[conn].prefill, Event::Client(conn)) {
            return Ok(());
        }
        let now = self.instant();
        let client = &mut self.conns[conn].client;
        client.awake = false;
        if !client.open || !client.attached {
            return Ok(());
        }
        if client.storing.is_some() {
            self.store_next(conn)?;
            self.wake(conn);
            return Ok(());
        }
        client.sending.on_time(now);
        while let Some(message) = client.inbox.pop_front() {
            if client.sending.on_message(now, message).is_err() {
                return self.client_leaves(conn);
            }
        }
        match client.sending.poll_action() {
            None => {
                if let Some(at) = client.sending.next_wakeup() {
                    let at = self.micros(at);
                    self.at(at, Event::Client(conn));
                }
                return Ok(());
            }
            Some(SendAction::Message(message)) => self.write(conn, true, &message, &[]),
            Some(SendAction::Part(plan)) => self.part(conn, plan)?,
            Some(SendAction::Outcome(transfer, result)) => self.outcome(conn, transfer, &result)?,
        }
        self.wake(conn);
        Ok(())
    }

    pub(super) fn outcome(
        &mut self,
        conn: usize,
        transfer: TransferId,
        result: &Result<PushStats, HandoffError>,
    ) -> Step {
        let push = self.push_of(conn, transfer);
        self.log(|| format!("outcome of push {push:?}: {result:?}"));
        if let Ok(stats) = result {
            self.result.units_again += stats.units_again;
        }
        let which = push.map_or(u64::MAX, |push| push as u64);
        self.verdicts.give(Side::Sender, which)?;
        if let Some(push) = push {
            self.forget_push(push);
        }
        Ok(())
    }

    /// A part is read from its source; over TCP it goes, over shared memory its units are stored first.
    pub(super) fn part(&mut self, conn: usize, plan: PartPlan) -> Step {
        let push = self.push_of(conn, plan.transfer);
        source_pinned::check(push.map_or(u64::MAX, |push| push as u64), push.is_none())?;
        let (layout, prefill) = (self.plan.layout.clone(), self.conns[conn].prefill);
        let source = &self.prefills[prefill].source;
        let units =
            plan.blocks.iter().map(|(from, _)| &source[layout.unit_range(*from, plan.group)]);
        let checksums = units.clone().map(xxh3_64).collect();
        if self.conns[conn].one_sided {
            self.conns[conn].client.storing = Some(Storing { plan, checksums, stored: 0 });
        } else {
            let payload = units.flatten().copied().collect::<Vec<u8>>();
            self.write(conn, true, &Message::Part(plan.header(checksums)), &payload);
        }
        Ok(())
    }

    /// Stores one unit into the decode worker's pool, or says that all are there.
    pub(super) fn store_next(&mut self, conn: usize) -> Step {
        let (layout, prefill) = (self.plan.layout.clone(), self.conns[conn].prefill);
        let (decode, incarnation) = (self.conns[conn].decode, self.conns[conn].incarnation);
        let Some(mut storing) = self.conns[conn].client.storing.take() else { return Ok(()) };
        let PartPlan { transfer, epoch, group, first_block, .. } = storing.plan;
        let Some((from, to)) = storing.plan.blocks.get(storing.stored).copied() else {
            let part = storing.plan.header(storing.checksums);
            self.write(conn, true, &Message::Part(part), &[]);
            return Ok(());
        };
        let mut bytes = self.prefills[prefill].source[layout.unit_range(from, group)].to_vec();
        if self.now < self.plan.calm_at && self.plan.rng.below(1000) < self.plan.rates.corrupt {
            let at = self.plan.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1;
            self.result.faults += 1;
            self.log(|| format!("conn {conn} stores a damaged unit of {transfer:?}"));
        }
        let logical = first_block + storing.stored as u32;
        storing.stored += 1;
        self.conns[conn].client.storing = Some(storing);
        // The pool of a process that died is written in vain.
        if self.decodes[decode].incarnation == incarnation {
            let by = GrantId { transfer: transfer.0, epoch };
            self.store(decode, by, (logical, group, to.0), 0, &bytes)?;
        }
        Ok(())
    }

    /// Bytes, or the end, come to the sender.
    pub(super) fn bytes_down(&mut self, conn: usize) -> Step {
        if self.defer_prefill(self.conns[conn].prefill, Event::Down(conn)) {
            return Ok(());
        }
        let now = self.now;
        let state = &mut self.conns[conn];
        let bytes = state.down.read(now);
        if !state.client.open {
            return Ok(());
        }
        state.client.reader.add(bytes);
        loop {
            match self.conns[conn].client.reader.message() {
                Ok(Some(message)) => self.client_hears(conn, message),
                Ok(None) => break,
                Err(_) => return self.client_leaves(conn),
            }
        }
        let state = &self.conns[conn];
        if state.down.is_at_end() {
            return self.client_leaves(conn);
        }
        let waiting = state.client.reader.waiting() as u64;
        if waiting > 0 {
            self.at(self.now + IO_TIME, Event::DownLimit(conn, waiting));
        }
        self.wake(conn);
        Ok(())
    }

    pub(super) fn client_hears(&mut self, conn: usize, message: Message) {
        let client = &mut self.conns[conn].client;
        let welcome = matches!(message, Message::Welcome { .. });
        if client.attached || !welcome {
            client.inbox.push_back(message);
            // Before the welcome everything else ends the connection.
            client.attached |= !welcome;
            return;
        }
        client.attached = true;
        for push in std::mem::take(&mut client.starts) {
            self.begin(conn, push);
        }
    }

    /// A frame that was begun is not there in time.
    pub(super) fn down_limit(&mut self, conn: usize, waiting: u64) -> Step {
        let client = &self.conns[conn].client;
        if client.open && client.reader.waiting() as u64 == waiting && waiting > 0 {
            return self.client_leaves(conn);
        }
        Ok(())
    }

    pub(super) fn connect_limit(&mut self, conn: usize) -> Step {
        let client = &self.conns[conn].client;
        if client.open && !client.attached { self.client_leaves(conn) } else { Ok(()) }
    }

    /// The pusher is dropped.
    pub(super) fn leave(&mut self, conn: usize) -> Step {
        if self.conns[conn].client.open { self.client_leaves(conn) } else { Ok(()) }
    }

    /// The sender's task ends: never within a store.
    pub(super) fn client_leaves(&mut self, conn: usize) -> Step {
        while self.conns[conn].client.storing.is_some() {
            self.store_next(conn)?;
        }
        self.log(|| format!("conn {conn}: the sender leaves"));
        let error = HandoffError::gone("closed");
        let client = &mut self.conns[conn].client;
        client.open = false;
        client.sending.close(&error);
        let mut over = Vec::new();
        while let Some(action) = client.sending.poll_action() {
            if let SendAction::Outcome(transfer, result) = action {
                over.push((transfer, result));
            }
        }
        let starts = std::mem::take(&mut client.starts);
        self.hang_up(conn);
        for (transfer, result) in over {
            self.outcome(conn, transfer, &result)?;
        }
        for push in starts {
            self.verdicts.give(Side::Sender, push as u64)?;
            self.forget_push(push);
        }
        Ok(())
    }

    /// The sender's socket closes.
    pub(super) fn hang_up(&mut self, conn: usize) {
        let after = self.plan.rng.below(MILLI);
        let at = self.conns[conn].up.close(self.now + after);
        self.at(at, Event::Up(conn));
    }
}
