//! The event loop: clients, one router, workers, links.

mod clients;
mod hosts;
mod room;
mod run;

pub use run::{Outcome, simulate};

use crate::event::{Class, Queue};
use crate::hand_off::HandOffs;
use crate::log::Log;
use crate::prompt::prompt_hashes;
use crate::record::{Fate, Record};
use crate::router::{LegView, Router, StateUpdate};
use crate::settings::ClusterSettings;
use crate::worker::{Effect, Leg, Message, Worker};
use crate::workload::Workload;
use clients::Clients;
use estafette_routing::{Choice, NoChoice};
use estafette_scheduler::Mode;
use estafette_types::{SplitMix64, Usage};
use hosts::Hosts;
use room::Room;

/// What happens.
enum Event {
    StepEnd,
    /// All KV of a turn is at its decode worker.
    Transfer,
    Message(Message),
    /// The receiver of a hand-off has waited long enough.
    Timeout,
    /// A request has waited long enough for a worker with room.
    RoomTimeout,
    State(Box<StateUpdate>),
    First {
        slot: u32,
    },
    Ended {
        slot: u32,
        usage: Usage,
        refused: bool,
    },
    Arrival,
    Wake,
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::StepEnd => "step-end",
            Self::Transfer => "transfer",
            Self::Message(message) => match message {
                Message::Start(_) => "start",
                Message::GrantWanted(_) => "grant-wanted",
                Message::Delivered(_) => "delivered",
                Message::GiveUp(_) => "give-up",
                Message::Released(_) => "released",
                Message::Cancel(_) => "cancel",
                Message::Subscribe => "subscribe",
            },
            Self::Timeout => "timeout",
            Self::RoomTimeout => "room-timeout",
            Self::State(_) => "state",
            Self::First { .. } => "first-token",
            Self::Ended { .. } => "ended",
            Self::Arrival => "arrival",
            Self::Wake => "wake",
        }
    }

    /// A figure for the log.
    fn figure(&self) -> u64 {
        match self {
            Self::State(update) => update.load.done.computed ^ (update.events.len() as u64) << 40,
            Self::First { slot } => u64::from(*slot),
            Self::Ended { slot, usage, .. } => u64::from(*slot) ^ usage.cached << 16,
            Self::Message(message) => match message {
                Message::Start(leg) => u64::from(leg.turn),
                Message::GrantWanted(turn)
                | Message::Delivered(turn)
                | Message::GiveUp(turn)
                | Message::Released(turn)
                | Message::Cancel(turn) => u64::from(*turn),
                Message::Subscribe => 0,
            },
            Self::StepEnd
            | Self::Transfer
            | Self::Timeout
            | Self::RoomTimeout
            | Self::Arrival
            | Self::Wake => 0,
        }
    }
}

/// A worker and what the loop keeps beside it.
struct Node {
    worker: Worker,
    waking: bool,
    /// Of its next state update.
    number: u64,
}

/// Where a turn runs.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Who streams.
    decode: u32,
    /// Who computes the prompt, if somebody else.
    prefill: Option<u32>,
    prefill_ended: bool,
    decode_ended: bool,
}

struct Cluster<'a> {
    settings: &'a ClusterSettings,
    workload: &'a Workload,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    hosts: Hosts,
    router: Router,
    hand_offs: HandOffs,
    clients: Clients<'a>,
    room: Room,
    placed: Vec<Option<Placed>>,
    records: Vec<Record>,
    loss: SplitMix64,
    log: Log<'a>,
    effects: Vec<Effect>,
}

impl Cluster<'_> {
    /// Runs until nothing is left to happen, or the time is up.
    fn run(&mut self, on_progress: &mut dyn FnMut(u64)) {
        let mut done = 0;
        while let Some(happening) = self.queue.pop() {
            if happening.at > self.settings.end_micros {
                return;
            }
            let (at, subject) = (happening.at, happening.subject);
            self.log.event(at, happening.event.name(), subject, happening.event.figure());
            self.handle(at, subject as u32, happening.event);
            if self.clients.ended != done {
                done = self.clients.ended;
                on_progress(done);
            }
        }
    }

    fn handle(&mut self, now: u64, subject: u32, event: Event) {
        match event {
            Event::StepEnd => self.step_ended(now, subject),
            Event::Transfer => self.transferred(now, subject),
            Event::Message(message) => {
                self.nodes[subject as usize].worker.push(message);
                self.wake(now, subject);
            }
            Event::Timeout => self.timed_out(now, subject),
            Event::RoomTimeout => self.waited_too_long(now, subject),
            Event::State(update) => {
                if self.router.heard(subject, &update) {
                    self.tell(now, subject, Message::Subscribe);
                }
                self.call_in(now);
            }
            Event::First { slot } => {
                self.router.first_token(LegView { turn: subject, slot });
                self.records[subject as usize].first_token.get_or_insert(now);
            }
            Event::Ended { slot, usage, refused } => {
                self.leg_ended(now, subject, slot, usage, refused);
            }
            Event::Arrival => self.arrived(now, subject),
            Event::Wake => {
                self.nodes[subject as usize].waking = false;
                if !self.nodes[subject as usize].worker.is_running() {
                    self.turn(now, subject);
                }
            }
        }
    }

    /// An idle worker looks at its messages once all that come now are there.
    fn wake(&mut self, now: u64, slot: u32) {
        let node = &mut self.nodes[slot as usize];
        if !node.waking && !node.worker.is_running() {
            node.waking = true;
            self.queue.push(now, Class::Wake, u64::from(slot), Event::Wake);
        }
    }

    fn step_ended(&mut self, now: u64, slot: u32) {
        if !self.hosts.is_due(slot, now) {
            return;
        }
        let ends = self.hosts.end(slot, now);
        self.expect_ends(ends);
        let began = self.nodes[slot as usize].worker.end_step(now, &mut self.effects);
        self.apply(now, slot, began);
        self.turn(now, slot);
    }

    fn turn(&mut self, now: u64, slot: u32) {
        let times = &self.settings.step_times;
        let time = self.nodes[slot as usize].worker.turn(now, times, &mut self.effects);
        self.apply(now, slot, now);
        if let Some(time) = time {
            let ends = self.hosts.begin(slot, time, now);
            self.expect_ends(ends);
        }
    }

    fn expect_ends(&mut self, ends: Vec<(u32, u64)>) {
        for (slot, at) in ends {
            self.queue.push(at, Class::StepEnd, u64::from(slot), Event::StepEnd);
        }
    }

    /// A message that takes its time to a worker.
    fn tell(&mut self, now: u64, slot: u32, message: Message) {
        let at = now + self.settings.message_micros;
        self.queue.push(at, Class::Message, u64::from(slot), Event::Message(message));
    }

    /// What a worker did to others; `began` is when the step began that has just ended.
    fn apply(&mut self, now: u64, slot: u32, began: u64) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.effect(now, slot, began, effect);
        }
        self.effects = effects;
    }

    fn effect(&mut self, now: u64, slot: u32, began: u64, effect: Effect) {
        let heard = now + self.settings.message_micros;
        match effect {
            Effect::Refused { turn } => {
                let event = Event::Ended { slot, usage: Usage::default(), refused: true };
                self.queue.push(heard, Class::Run, u64::from(turn), event);
            }
            Effect::First { turn } => {
                self.queue.push(heard, Class::Run, u64::from(turn), Event::First { slot });
            }
            Effect::Finished { turn, usage } => {
                let event = Event::Ended { slot, usage, refused: false };
                self.queue.push(heard, Class::Run, u64::from(turn), event);
            }
            Effect::Begun { turn, cached_blocks } => self.begun(now, slot, turn, cached_blocks),
            Effect::Computed { turn, from, to, last } => {
                let done = self.hand_offs.computed(turn, (from, to), began, now, last);
                self.expect_transfer(turn, done);
            }
            Effect::Granted { turn, cached_blocks } => {
                // The grant has a way to go before the first byte comes back.
                let done = self.hand_offs.granted(turn, cached_blocks, heard);
                self.expect_transfer(turn, done);
            }
            Effect::Revoked { turn } => self.release_sender(now, turn),
            Effect::State { load, events, snapshot } => {
                let node = &mut self.nodes[slot as usize];
                let number = node.number;
                node.number += 1;
                let lost = self.loss.below(1_000_000) < u64::from(self.settings.state_loss_ppm);
                if !lost || snapshot {
                    let update = Box::new(StateUpdate { number, load, events, snapshot });
                    let at = now + self.settings.state_micros;
                    self.queue.push(at, Class::State, u64::from(slot), Event::State(update));
                }
            }
        }
    }

    fn expect_transfer(&mut self, turn: u32, done: Option<u64>) {
        if let Some(at) = done {
            self.queue.push(at, Class::Transfer, u64::from(turn), Event::Transfer);
        }
    }

    /// A prefill worker is about to compute a prompt: it asks the decode worker for blocks.
    fn begun(&mut self, now: u64, sender: u32, turn: u32, cached_blocks: u32) {
        let Some(placed) = self.placed[turn as usize] else { return };
        if placed.decode_ended || !self.awaits_kv(turn) {
            // The receiver has given up: nobody will read the blocks.
            self.tell(now, sender, Message::Released(turn));
            return;
        }
        self.hand_offs.begin(turn, sender, placed.decode, cached_blocks, now);
        self.tell(now, placed.decode, Message::GrantWanted(turn));
    }

    fn awaits_kv(&self, turn: u32) -> bool {
        self.records[turn as usize].handed_over
    }

    fn transferred(&mut self, now: u64, turn: u32) {
        let Some(sender) = self.hand_offs.end(turn) else { return };
        if let Some(placed) = self.placed[turn as usize] {
            self.push_now(now, placed.decode, Message::Delivered(turn));
        }
        self.push_now(now, sender, Message::Released(turn));
    }

    /// A message from a worker's own transport.
    fn push_now(&mut self, now: u64, slot: u32, message: Message) {
        self.nodes[slot as usize].worker.push(message);
        self.wake(now, slot);
    }

    fn timed_out(&mut self, now: u64, turn: u32) {
        let Some(placed) = self.placed[turn as usize] else { return };
        if !placed.decode_ended {
            self.push_now(now, placed.decode, Message::GiveUp(turn));
        }
    }

    /// The hand-off of `turn` will not be; its sender may use the blocks again.
    fn release_sender(&mut self, now: u64, turn: u32) {
        self.records[turn as usize].handed_over = false;
        if let Some(sender) = self.hand_offs.end(turn) {
            self.tell(now, sender, Message::Released(turn));
        }
    }

    /// Chooses who runs a request, with the hits of this moment, and sends its legs.
    fn send(&mut self, now: u64, turn: u32) -> Result<(), NoChoice> {
        let session = self.clients.session_of(turn);
        let namespace = self.workload.sessions[session as usize].namespace;
        let block_size = self.settings.block_size;
        let hashes = prompt_hashes(self.workload, turn, namespace, block_size);
        let input_tokens = self.workload.turns[turn as usize].input_tokens;
        let routed = self.router.route(turn, input_tokens, &hashes)?;
        let record = &mut self.records[turn as usize];
        let expected = u64::from(routed.cached_blocks) * u64::from(block_size);
        record.expected_cached_tokens = expected.min(u64::from(input_tokens) - 1);
        match routed.choice {
            Choice::Aggregated { decode } => {
                self.place(turn, decode, None);
                self.dispatch(now, turn, decode, Mode::Local, hashes);
            }
            Choice::Disaggregated { prefill, decode } => {
                record.handed_over = true;
                self.place(turn, decode, Some(prefill));
                let timeout =
                    now + self.settings.message_micros + self.settings.hand_off_timeout_micros;
                self.queue.push(timeout, Class::Timeout, u64::from(turn), Event::Timeout);
                self.dispatch(now, turn, prefill, Mode::PrefillOnly, hashes.clone());
                self.dispatch(now, turn, decode, Mode::Remote, hashes);
            }
        }
        Ok(())
    }

    fn place(&mut self, turn: u32, decode: u32, prefill: Option<u32>) {
        let prefill_ended = prefill.is_none();
        self.placed[turn as usize] =
            Some(Placed { decode, prefill, prefill_ended, decode_ended: false });
    }

    fn dispatch(
        &mut self,
        now: u64,
        turn: u32,
        slot: u32,
        mode: Mode,
        hashes: Vec<estafette_types::BlockHash>,
    ) {
        let asked = &self.workload.turns[turn as usize];
        let (input_tokens, output_tokens) = (asked.input_tokens, asked.output_tokens);
        let leg = Leg { turn, mode, input_tokens, output_tokens, hashes };
        self.tell(now, slot, Message::Start(Box::new(leg)));
    }

    fn leg_ended(&mut self, now: u64, turn: u32, slot: u32, usage: Usage, refused: bool) {
        self.router.ended(LegView { turn, slot });
        let Some(placed) = &mut self.placed[turn as usize] else { return };
        let of_prefill = placed.prefill == Some(slot);
        placed.prefill_ended |= of_prefill;
        placed.decode_ended |= !of_prefill;
        let placed = *placed;
        let record = &mut self.records[turn as usize];
        if usage.computed + usage.cached > 0
            && (of_prefill || placed.prefill.is_none() || !record.handed_over)
        {
            record.cached_tokens = usage.cached;
        }
        if of_prefill {
            if refused {
                self.release_sender(now, turn);
                self.tell(now, placed.decode, Message::GiveUp(turn));
            }
        } else {
            // A hand-off that is still under way has nobody to go to.
            if let Some(sender) = self.hand_offs.end(turn) {
                self.records[turn as usize].handed_over = false;
                self.tell(now, sender, Message::Released(turn));
            }
            if let Some(prefill) = placed.prefill.filter(|_| !placed.prefill_ended) {
                self.records[turn as usize].handed_over = false;
                self.tell(now, prefill, Message::Cancel(turn));
            }
            let fate = if refused { Fate::Rejected } else { Fate::Finished };
            self.close(now, turn, fate);
        }
    }

    /// The client has its answer, or will have none; it goes on after a while.
    fn close(&mut self, now: u64, turn: u32, fate: Fate) {
        let record = &mut self.records[turn as usize];
        record.fate = fate;
        if fate == Fate::Finished {
            record.finished = Some(now);
        }
        for (at, next) in self.clients.ended(now, turn) {
            self.queue.push(at, Class::Arrival, u64::from(next), Event::Arrival);
        }
    }
}

#[cfg(test)]
mod tests;
