//! The run: time, workers, connections, and what is true of all of them.

use super::Simulated;
use super::client::Client;
use super::decode::DecodeWorker;
use super::faults::{Disaster, Fate, disasters, fate};
use super::link::Pipe;
use super::plan::{Bug, MILLI, Micros, Plan, SECOND};
use super::prefill::PrefillWorker;
use super::server::Server;
use crate::message::Message;
use crate::proof::invariants::one_verdict::{Side, Verdicts};
use crate::proof::invariants::{Violation, no_leak};
use crate::wire::encode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Both legs of a request, and what its engines do of themselves.
    Leg(usize),
    Push(usize),
    Step(usize),
    Abort(usize),
    Cancel(usize),
    /// A sequence that took blocks over ends.
    SequenceEnds {
        decode: usize,
        incarnation: u64,
        leg: usize,
    },
    /// Bytes, or the end, come to one end of a connection.
    Up(usize),
    Down(usize),
    /// The sender's task of a connection runs.
    Client(usize),
    /// A connection that was not made in time, or has a frame begun since then.
    ConnectLimit(usize),
    UpLimit(usize, u64),
    DownLimit(usize, u64),
    DecodeTimer {
        decode: usize,
        incarnation: u64,
    },
    DecodeEngine(usize),
    Lose(usize),
    Disaster(usize),
    PrefillBack(usize),
    DecodeBack(usize),
}

/// A connection between two incarnations.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) prefill: usize,
    pub(super) decode: usize,
    pub(super) incarnation: u64,
    pub(super) one_sided: bool,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    pub(super) client: Client,
    pub(super) server: Server,
}

/// What a request is at by now: each try is a push and a leg of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    pub(super) push: Option<usize>,
    pub(super) leg: Option<usize>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) base: Instant,
    pub(super) now: Micros,
    queue: BTreeSet<(Micros, u64, Event)>,
    serial: u64,
    pub(super) conns: Vec<Conn>,
    pub(super) prefills: Vec<PrefillWorker>,
    pub(super) decodes: Vec<DecodeWorker>,
    pub(super) tries: Vec<Tries>,
    /// The request of each push, and of each leg.
    pub(super) pushes: Vec<usize>,
    pub(super) legs: Vec<usize>,
    pub(super) verdicts: Verdicts,
    partitions: BTreeMap<(usize, usize), Micros>,
    disasters: Vec<(Micros, Disaster)>,
    pub(super) result: Simulated,
    verbose: bool,
}

pub(super) type Step = Result<(), Violation>;

impl World {
    pub(super) fn new(mut plan: Plan, verbose: bool) -> Self {
        let size = (plan.prefills, plan.decodes);
        let disasters = disasters(&mut plan.rng, &plan.rates, size, plan.calm_at);
        let prefills = (0..plan.prefills).map(|_| PrefillWorker::new(&plan)).collect();
        let decodes = (0..plan.decodes).map(|_| DecodeWorker::new(&plan, 1)).collect();
        let mut world = Self {
            base: Instant::now(),
            now: 0,
            queue: BTreeSet::new(),
            serial: 0,
            conns: Vec::new(),
            prefills,
            decodes,
            tries: vec![Tries::default(); plan.requests.len()],
            pushes: Vec::new(),
            legs: Vec::new(),
            verdicts: Verdicts::default(),
            partitions: BTreeMap::new(),
            disasters,
            result: Simulated::default(),
            verbose,
            plan,
        };
        for at in 0..world.plan.requests.len() {
            let request = world.plan.requests[at];
            world.at(request.push_at, Event::Push(at));
            world.at(request.leg_at, Event::Leg(at));
        }
        for at in 0..world.disasters.len() {
            world.at(world.disasters[at].0, Event::Disaster(at));
        }
        world
    }

    pub(super) fn run(mut self) -> Simulated {
        let ended = self.run_on();
        if let Err(violation) = ended {
            self.log(|| format!("VIOLATION {violation:?}"));
            self.result.violation = Some(format!("{violation:?}"));
        }
        self.result
    }

    /// Everything until nothing happens any more; then the senders leave, and everything again.
    fn run_on(&mut self) -> Step {
        self.drain()?;
        for conn in 0..self.conns.len() {
            self.leave(conn)?;
        }
        self.drain()?;
        self.verdicts.check()?;
        self.decodes.iter().try_for_each(|worker| no_leak::check(&worker.ledger))
    }

    fn drain(&mut self) -> Step {
        while let Some((at, _, event)) = self.queue.pop_first() {
            self.now = at;
            self.result.events += 1;
            // Everything has a deadline: what goes on for so long never ends.
            if self.result.events > 300_000 {
                return Err(Violation::Refused("the run does not end".into()));
            }
            self.handle(event)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Step {
        match event {
            Event::Leg(request) => self.leg_comes(request),
            Event::Push(request) => self.push_comes(request),
            Event::Step(push) => self.engine_step(push),
            Event::Abort(push) => self.engine_aborts(push),
            Event::Cancel(leg) => self.engine_cancels(leg),
            Event::SequenceEnds { decode, incarnation, leg } => {
                self.sequence_ends(decode, incarnation, leg)
            }
            Event::Up(conn) => self.bytes_up(conn),
            Event::Down(conn) => self.bytes_down(conn),
            Event::Client(conn) => self.client_runs(conn),
            Event::ConnectLimit(conn) => self.connect_limit(conn),
            Event::UpLimit(conn, waiting) => self.up_limit(conn, waiting),
            Event::DownLimit(conn, waiting) => self.down_limit(conn, waiting),
            Event::DecodeTimer { decode, incarnation } => self.decode_timer(decode, incarnation),
            Event::DecodeEngine(decode) => self.decode_engine(decode),
            Event::Lose(conn) => {
                self.lose(conn);
                Ok(())
            }
            Event::Disaster(at) => {
                self.disaster(self.disasters[at].1);
                Ok(())
            }
            Event::PrefillBack(which) => {
                self.prefills[which].down = false;
                Ok(())
            }
            Event::DecodeBack(which) => {
                self.decodes[which].down = false;
                Ok(())
            }
        }
    }

    /// Puts `event` into the future.
    pub(super) fn at(&mut self, at: Micros, event: Event) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial, event));
    }

    /// The same, some time of at most `within` from now.
    pub(super) fn soon(&mut self, within: Micros, event: Event) {
        let at = self.now + 1 + self.plan.rng.below(within);
        self.at(at, event);
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub(super) fn micros(&self, at: Instant) -> Micros {
        // Rounded up: a timer never fires before its time.
        at.saturating_duration_since(self.base).as_nanos().div_ceil(1000) as Micros
    }

    pub(super) fn log(&mut self, line: impl FnOnce() -> String) {
        if self.verbose {
            self.result.log.push(format!("{:>9} µs  {}", self.now, line()));
        }
    }

    /// Writes a message, and the units that follow it, into one direction of a connection; the injector decides what
    /// becomes of it.
    pub(super) fn write(&mut self, conn: usize, up: bool, message: &Message, payload: &[u8]) {
        let mut bytes = encode(message);
        bytes.extend_from_slice(payload);
        let fate = if self.now < self.plan.calm_at {
            fate(&mut self.plan.rng, &self.plan.rates, bytes.len())
        } else {
            Fate::Arrives
        };
        self.result.faults += u64::from(fate != Fate::Arrives);
        self.log(|| {
            let kind = format!("{message:?}");
            let kind: String = kind.chars().take(110).collect();
            format!("conn {conn} {} {fate:?} {kind}", if up { "up" } else { "down" })
        });
        let latency = 10 + self.plan.rng.below(200);
        match fate {
            Fate::Arrives => self.put(conn, up, latency, &bytes),
            Fate::Late(time) => self.put(conn, up, latency + time, &bytes),
            Fate::Twice => {
                self.put(conn, up, latency, &bytes);
                self.put(conn, up, latency, &bytes);
            }
            Fate::Dropped(None) => {}
            Fate::Dropped(Some(later)) => self.at(self.now + later, Event::Lose(conn)),
            Fate::Cut(len, lost) => {
                bytes.truncate(len);
                self.put(conn, up, latency, &bytes);
                if lost {
                    self.at(self.now + latency + 1, Event::Lose(conn));
                }
            }
            Fate::Damaged(at, bit) => {
                bytes[at] ^= bit;
                if self.plan.bug == Some(Bug::UncheckedHeaders) {
                    sign_anew(&mut bytes);
                }
                self.put(conn, up, latency, &bytes);
            }
            Fate::Lost => self.lose(conn),
        }
    }

    /// Bytes leave in pieces, and each has a way to go.
    fn put(&mut self, conn: usize, up: bool, latency: Micros, bytes: &[u8]) {
        let pair = (self.conns[conn].prefill, self.conns[conn].decode);
        let cut_until = self.partitions.get(&pair).copied().unwrap_or(0);
        let half = self.plan.rng.below(bytes.len() as u64 + 1) as usize;
        let mut at = (self.now + latency).max(cut_until);
        for piece in [&bytes[..half], &bytes[half..]] {
            let conn_state = &mut self.conns[conn];
            let pipe = if up { &mut conn_state.up } else { &mut conn_state.down };
            let arrives = pipe.write(at, piece.to_vec());
            self.at(arrives, if up { Event::Up(conn) } else { Event::Down(conn) });
            at = arrives + self.plan.rng.below(100);
        }
    }

    /// The network loses a connection: each end finds out at its own time.
    pub(super) fn lose(&mut self, conn: usize) {
        // Over a Unix socket nothing is lost; a fault there is the death of a process.
        if self.conns[conn].one_sided {
            return;
        }
        self.log(|| format!("conn {conn} is lost"));
        let (up, down) = (self.plan.rng.below(SECOND), self.plan.rng.below(SECOND));
        let up = self.conns[conn].up.lose(self.now + up);
        let down = self.conns[conn].down.lose(self.now + down);
        self.at(up, Event::Up(conn));
        self.at(down, Event::Down(conn));
    }

    fn disaster(&mut self, disaster: Disaster) {
        self.log(|| format!("{disaster:?}"));
        self.result.faults += 1;
        match disaster {
            Disaster::Partition { prefill, decode, time } => {
                self.partitions.insert((prefill, decode), self.now + time);
            }
            Disaster::KillPrefill { which, back_after } => {
                self.kill_prefill(which);
                self.at(self.now + back_after, Event::PrefillBack(which));
            }
            Disaster::KillDecode { which, back_after } => {
                self.kill_decode(which);
                self.at(self.now + back_after, Event::DecodeBack(which));
            }
            Disaster::PausePrefill { which, time } => self.prefills[which].paused = self.now + time,
            Disaster::PauseDecode { which, time } => self.decodes[which].paused = self.now + time,
        }
    }

    /// One try of a request has ended on both sides; perhaps there is another, under the same id.
    pub(super) fn try_again(&mut self, request: usize) {
        let Tries { push, leg } = self.tries[request];
        let over = |side, which: Option<usize>| {
            which.is_some_and(|which| !self.verdicts.owes(side, which as u64))
        };
        let again = self.plan.requests[request].again;
        if again && over(Side::Sender, push) && over(Side::Receiver, leg) {
            self.plan.requests[request].again = false;
            self.tries[request] = Tries::default();
            self.log(|| format!("request {request} is tried again"));
            self.soon(20 * MILLI, Event::Push(request));
            self.soon(20 * MILLI, Event::Leg(request));
        }
    }
}

/// Gives a damaged header the checksum of what it says now.
fn sign_anew(frame: &mut [u8]) {
    let len = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    if let Some(header) = frame.get_mut(4..4 + len)
        && let Some((body, checksum)) = header.split_last_chunk_mut::<8>()
    {
        *checksum = xxh3_64(&body[..body.len() - 1]).to_le_bytes();
    }
}

/// The bytes that belong into a unit of a request.
pub(super) fn content(seed: u64, transfer: u128, logical: u32, group: u32, len: usize) -> Vec<u8> {
    let key = seed ^ (transfer as u64) << 32 ^ u64::from(logical) << 8 ^ u64::from(group);
    let mut rng = estafette_types::SplitMix64::new(key);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}
