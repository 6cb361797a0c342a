//! The engine's thread: takes commands, runs steps, tells everybody what happened.
//!
//! It is the only one to touch the engine, so what it does between two steps is atomic for everybody else. It
//! sleeps when there is nothing to run.

use crate::command::{Command, Leg, LegStart};
use crate::pulse::Pulse;
use crate::state::StatePublisher;
use estafette_engine::{Engine, EngineEvent, StepObserver};
use estafette_proto::{status, v1};
use estafette_scheduler::{AddError, Mode, NewSequence};
use estafette_types::{ErrorCode, FinishReason, HashSeed, LoadRecord, Role, SequenceId, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::Status;

/// What differs between prefill and decode workers: how KV gets out, or in.
pub trait HandOff: StepObserver + Send + 'static {
    /// What the transport reports.
    type Event: Send + std::fmt::Debug + 'static;
    /// The pool this worker belongs to.
    const ROLE: Role;

    /// How the scheduler is to treat the leg.
    fn mode(&self, leg: &Leg) -> Mode;
    /// The leg's sequence was taken in.
    fn started(&mut self, id: SequenceId, leg: &Leg, deadline: Instant, engine: &mut Engine);
    /// The transport reports.
    fn on_transport(&mut self, event: Self::Event, engine: &mut Engine) -> Vec<EngineEvent>;
    /// A step or a transport event had these results.
    fn on_events(&mut self, events: &[EngineEvent], engine: &mut Engine);
    /// The sequence was cancelled or ran into its deadline.
    fn cancelled(&mut self, id: SequenceId, engine: &mut Engine);
    /// Whether blocks are still being read or written by others.
    fn is_idle(&self) -> bool;
    /// Does what is due; called between steps, and while idle within the time that [`HandOff::next_timer`] says.
    fn on_timer(&mut self, engine: &mut Engine);
    /// How soon [`HandOff::on_timer`] is to be called although nothing happens; `None`: no hurry.
    fn next_timer(&self) -> Option<Duration>;
}

/// Longest sleep while idle; whoever watches the thread's pulse knows it by that.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// When the grace is over and nobody waits any more, blocks of finished prompts may be read for so long, and writers of others
/// have so long to let go.
const LAST_WRITES: Duration = Duration::from_millis(1500);
/// Commands between two steps; whoever sends more waits, the sequences that run do not.
const COMMANDS_PER_STEP: usize = 1024;

struct Client {
    events: mpsc::Sender<Result<v1::RunEvent, Status>>,
    deadline: Instant,
}

/// Everything that the thread owns.
pub(crate) struct EngineLoop<H: HandOff> {
    engine: Engine,
    hand_off: H,
    commands: Receiver<Command<H::Event>>,
    clients: BTreeMap<SequenceId, Client>,
    deadlines: BTreeSet<(Instant, SequenceId)>,
    state: StatePublisher,
    pulse: Pulse,
    seed: HashSeed,
    step_micros: u64,
    draining: bool,
    /// The grace is over: what is still read or written by others is waited for until then.
    ends_by: Option<Instant>,
}

impl<H: HandOff> EngineLoop<H> {
    pub(crate) fn new(
        engine: Engine,
        hand_off: H,
        commands: Receiver<Command<H::Event>>,
        pulse: Pulse,
        seed: HashSeed,
    ) -> Self {
        Self {
            engine,
            hand_off,
            commands,
            clients: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            state: StatePublisher::default(),
            pulse,
            seed,
            step_micros: 0,
            draining: false,
            ends_by: None,
        }
    }

    /// Runs until it is drained, stopped, or nobody can send commands any more.
    pub(crate) fn run(mut self) {
        let mut busy = false;
        while self.take_commands(busy) && !self.may_end(Instant::now()) {
            self.end_overdue(Instant::now());
            self.hand_off.on_timer(&mut self.engine);
            self.pulse.beat(Instant::now());
            busy = self.step();
            self.publish();
            self.pulse.beat(Instant::now());
        }
        for client in self.clients.into_values() {
            let stopped = status(ErrorCode::WorkerLost, "the worker stopped before the end");
            drop(client.events.try_send(Err(stopped)));
        }
    }

    /// It leaves, nobody waits for it, and nobody reads or writes its blocks, or not for any longer than may be waited for.
    fn may_end(&self, now: Instant) -> bool {
        let over = self.ends_by.is_some_and(|end| end <= now);
        self.draining && self.clients.is_empty() && (self.hand_off.is_idle() || over)
    }

    /// Handles the commands that are there, waiting for one when the engine has nothing to run. False: nobody is left who could
    /// send one.
    fn take_commands(&mut self, busy: bool) -> bool {
        let first = if busy {
            self.commands.try_recv().ok()
        } else {
            match self.commands.recv_timeout(self.idle_wait()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        };
        for command in batch(first, &self.commands, COMMANDS_PER_STEP) {
            self.handle(command);
        }
        true
    }

    fn idle_wait(&self) -> Duration {
        let now = Instant::now();
        let deadline = self.deadlines.first().map(|(at, _)| at.saturating_duration_since(now));
        let end = self.ends_by.map(|at| at.saturating_duration_since(now));
        let waits = [deadline, self.hand_off.next_timer(), end];
        waits.into_iter().flatten().fold(IDLE_WAIT, Duration::min)
    }

    fn handle(&mut self, command: Command<H::Event>) {
        match command {
            Command::Start(leg) => self.start(*leg),
            Command::Cancel(id) => self.cancel(id, None, false),
            Command::Subscribe(subscriber) => {
                let hashes: Vec<_> = self.engine.scheduler.cached_hashes();
                // What changed up to now is in the snapshot; earlier subscribers must hear of it first.
                self.publish();
                let load = self.load();
                self.state.subscribe(subscriber, &hashes, load, self.draining);
            }
            Command::Drain => {
                self.draining = true;
                self.publish();
            }
            Command::Stop => self.stop(),
            Command::Transport(event) => {
                let events = self.hand_off.on_transport(event, &mut self.engine);
                self.deliver(events);
            }
        }
    }

    fn start(&mut self, start: LegStart) {
        let LegStart { id, prompt, output, hashes, params, limits, leg, deadline, events } = start;
        let mode = self.hand_off.mode(&leg);
        let new = NewSequence { id, prompt, output, hashes, seed: self.seed, limits, mode };
        let taken = if self.draining {
            Err(status(ErrorCode::Draining, "the worker is draining"))
        } else {
            self.engine.submit(new, params).map_err(|e| refusal(&e))
        };
        match taken {
            Ok(()) => {
                self.hand_off.started(id, &leg, deadline, &mut self.engine);
                self.deadlines.insert((deadline, id));
                self.clients.insert(id, Client { events, deadline });
            }
            // The receiver may be gone already; then nobody is to be told.
            Err(status) => drop(events.try_send(Err(status))),
        }
    }

    /// The grace is over: whoever still waits is told to go on elsewhere, with the count of what was done here.
    fn stop(&mut self) {
        self.draining = true;
        self.ends_by = Some(Instant::now() + LAST_WRITES);
        let left: Vec<_> = self.clients.keys().copied().collect();
        left.into_iter().for_each(|id| self.cancel(id, None, true));
        self.publish();
    }

    /// Ends `id`; with an error for its client, or else with a last event, which may say that this worker leaves.
    fn cancel(&mut self, id: SequenceId, error: Option<Status>, leaving: bool) {
        let Some(client) = self.forget(id) else { return };
        self.hand_off.cancelled(id, &mut self.engine);
        let usage = self.engine.cancel(id).unwrap_or_default();
        let last = match error {
            Some(status) => Err(status),
            None => Ok(finished(FinishReason::Cancelled, usage, leaving)),
        };
        drop(client.events.try_send(last));
    }

    fn forget(&mut self, id: SequenceId) -> Option<Client> {
        let client = self.clients.remove(&id)?;
        self.deadlines.remove(&(client.deadline, id));
        Some(client)
    }

    fn end_overdue(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            let error = status(ErrorCode::DeadlineExceeded, "the request ran into its deadline");
            self.cancel(id, Some(error), false);
        }
    }

    /// Whether there was something to run.
    fn step(&mut self) -> bool {
        let began = Instant::now();
        let Some(events) = self.engine.step(&mut self.hand_off) else { return false };
        self.step_micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.deliver(events);
        true
    }

    fn deliver(&mut self, events: Vec<EngineEvent>) {
        self.hand_off.on_events(&events, &mut self.engine);
        for event in events {
            match event {
                EngineEvent::Token { id, index, token, logprob } => {
                    let token = v1::Token::new(index, token, logprob.as_ref());
                    self.tell(id, v1::run_event::Event::Token(token));
                }
                EngineEvent::Finished { id, reason, usage } => {
                    if let Some(client) = self.forget(id) {
                        drop(client.events.try_send(Ok(finished(reason, usage, false))));
                    }
                }
            }
        }
    }

    /// A client that is gone is noticed here too: its sequence ends before the next step.
    fn tell(&mut self, id: SequenceId, event: v1::run_event::Event) {
        let Some(client) = self.clients.get(&id) else { return };
        if client.events.try_send(Ok(v1::RunEvent { event: Some(event) })).is_err() {
            self.cancel(id, None, false);
        }
    }

    fn load(&self) -> LoadRecord {
        LoadRecord { step_micros: self.step_micros, ..self.engine.scheduler.load() }
    }

    fn publish(&mut self) {
        let load = self.load();
        let events = self.engine.scheduler.take_events();
        self.state.publish(&events, load, self.draining);
    }
}

/// `first` and what waits in the queue, at most `most`; the rest stays there.
fn batch<T>(first: Option<T>, queue: &Receiver<T>, most: usize) -> Vec<T> {
    first.into_iter().chain(queue.try_iter()).take(most).collect()
}

fn finished(reason: FinishReason, usage: Usage, leaving: bool) -> v1::RunEvent {
    let reason = v1::FinishReason::from(reason).into();
    let finished = v1::Finished { reason, usage: Some(usage.into()), leaving };
    v1::RunEvent { event: Some(v1::run_event::Event::Finished(finished)) }
}

/// Why a sequence was not taken in, in the words of the wire.
fn refusal(error: &AddError) -> Status {
    let code = match error {
        AddError::QueueFull { .. } => ErrorCode::Overloaded,
        AddError::TooLong { .. } | AddError::NeverFits { .. } => ErrorCode::ContextLengthExceeded,
        AddError::EmptyPrompt | AddError::Complete { .. } => ErrorCode::InvalidRequest,
    };
    status(code, error.to_string())
}

#[cfg(test)]
mod tests;
