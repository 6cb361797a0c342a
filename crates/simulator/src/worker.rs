//! A simulated worker: the real scheduler and block manager, and a step that takes the time of the model.
//!
//! As in the real worker, messages are handled between two steps, grants are given oldest leg first and never by
//! preempting, and the state goes out after each step.

use crate::step_time::{StepTime, StepTimes, StepWork};
use estafette_scheduler::{
    Mode, NewSequence, ReserveError, Scheduler, SchedulerConfig, StepEvent, StepPlan,
};
use estafette_types::{BlockHash, KvEvent, Limits, LoadRecord, SequenceId, TokenId, Usage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One worker's part of a request.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    /// The turn.
    pub(crate) turn: u32,
    pub(crate) mode: Mode,
    pub(crate) input_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) hashes: Vec<BlockHash>,
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Start(Box<Leg>),
    /// The prefill worker of this turn asks for blocks.
    GrantWanted(u32),
    /// All KV of this turn is here.
    Delivered(u32),
    /// It did not come in time.
    GiveUp(u32),
    /// The blocks of this turn are not read any more.
    Released(u32),
    /// Nobody wants this turn any more.
    Cancel(u32),
    /// The router missed something.
    Subscribe,
}

/// What a worker does to others.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// It was not taken in.
    Refused { turn: u32 },
    /// Its first token is chosen here, or goes on from here.
    First { turn: u32 },
    /// It has ended.
    Finished { turn: u32, usage: Usage },
    /// Blocks of a prompt are there or in the making: the hand-off can begin.
    Begun { turn: u32, cached_blocks: u32 },
    /// Blocks `from..to` of a prompt were computed in the step that has ended; `last`: there will be no more.
    Computed { turn: u32, from: u32, to: u32, last: bool },
    /// Blocks were reserved; the first ones hold the right KV.
    Granted { turn: u32, cached_blocks: u32 },
    /// The hand-off's blocks must not be written any more.
    Revoked { turn: u32 },
    /// The state after a step.
    State { load: LoadRecord, events: Vec<KvEvent>, snapshot: bool },
}

/// A step that runs.
#[derive(Debug)]
struct Step {
    plan: StepPlan,
    time: StepTime,
    began: u64,
}

#[derive(Debug)]
struct LegState {
    turn: u32,
    mode: Mode,
    /// For KV from elsewhere.
    awaits: bool,
    told: bool,
    begun: bool,
    /// Nobody will read the blocks of this prompt any more.
    abandoned: bool,
}

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    scheduler: Scheduler,
    block_size: u32,
    step: Option<Step>,
    inbox: VecDeque<Message>,
    legs: BTreeMap<SequenceId, LegState>,
    ids: BTreeMap<u32, SequenceId>,
    next_id: u64,
    asking: BTreeSet<SequenceId>,
    step_micros: u64,
    published: LoadRecord,
    /// Of all steps.
    pub(crate) busy_micros: u64,
    /// Steps beyond where the step times hold.
    pub(crate) extrapolated: u64,
    pub(crate) steps: u64,
}

impl Worker {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            block_size: config.block_size,
            step: None,
            inbox: VecDeque::new(),
            legs: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 0,
            asking: BTreeSet::new(),
            step_micros: 0,
            published: LoadRecord::default(),
            busy_micros: 0,
            extrapolated: 0,
            steps: 0,
        }
    }

    /// A message came; it is handled between two steps.
    pub(crate) fn push(&mut self, message: Message) {
        self.inbox.push_back(message);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.step.is_some()
    }

    /// The first load record, as a new worker sends it.
    pub(crate) fn load(&self) -> LoadRecord {
        LoadRecord { step_micros: self.step_micros, ..self.scheduler.load() }
    }

    /// When the step began that has just ended, for what was computed in it.
    pub(crate) fn end_step(&mut self, now: u64, effects: &mut Vec<Effect>) -> u64 {
        let Some(step) = self.step.take() else { return 0 };
        self.step_micros = now - step.began;
        self.steps += 1;
        self.busy_micros += self.step_micros;
        self.extrapolated += u64::from(step.time.extrapolated);
        self.computed(&step.plan, effects);
        let sampled: Vec<_> = step
            .plan
            .sequences
            .iter()
            .filter(|s| s.samples)
            .map(|s| (s.id, self.token(s.id)))
            .collect();
        let events = self.scheduler.complete(&step.plan, &sampled);
        self.report(events, effects);
        self.publish(effects);
        step.began
    }

    /// A token that nobody else's answer has: what a sequence generates is shared with nobody.
    fn token(&self, id: SequenceId) -> TokenId {
        self.legs.get(&id).map_or(0, |leg| leg.turn)
    }

    fn computed(&self, plan: &StepPlan, effects: &mut Vec<Effect>) {
        for scheduled in &plan.sequences {
            let Some(leg) =
                self.legs.get(&scheduled.id).filter(|leg| leg.mode == Mode::PrefillOnly)
            else {
                continue;
            };
            let end = scheduled.start + scheduled.tokens.len() as u32;
            let last = scheduled.ends_prompt;
            let to = if last { end.div_ceil(self.block_size) } else { end / self.block_size };
            effects.push(Effect::Computed {
                turn: leg.turn,
                from: scheduled.start / self.block_size,
                to,
                last,
            });
        }
    }

    fn report(&mut self, events: Vec<StepEvent>, effects: &mut Vec<Effect>) {
        for event in events {
            match event {
                StepEvent::Token { id, .. } => {
                    if let Some(leg) = self.legs.get_mut(&id).filter(|leg| !leg.told) {
                        leg.told = true;
                        effects.push(Effect::First { turn: leg.turn });
                    }
                }
                StepEvent::Finished { id, usage, .. } => {
                    if let Some(leg) = self.legs.get(&id) {
                        effects.push(Effect::Finished { turn: leg.turn, usage });
                        // The blocks of a prompt that are still read are released later.
                        if leg.mode != Mode::PrefillOnly || leg.abandoned {
                            self.scheduler.release_held(id);
                            self.forget(id);
                        }
                    }
                }
            }
        }
    }

    fn forget(&mut self, id: SequenceId) {
        if let Some(leg) = self.legs.remove(&id) {
            self.ids.remove(&leg.turn);
        }
        self.asking.remove(&id);
    }

    fn publish(&mut self, effects: &mut Vec<Effect>) {
        let load = self.load();
        let events = self.scheduler.take_events();
        if events.is_empty() && load == self.published {
            return;
        }
        self.published = load;
        effects.push(Effect::State { load, events, snapshot: false });
    }

    /// Handles what has come, gives the grants there is room for and starts the next step: how long it takes.
    pub(crate) fn turn(
        &mut self,
        now: u64,
        times: &StepTimes,
        effects: &mut Vec<Effect>,
    ) -> Option<StepTime> {
        debug_assert!(self.step.is_none(), "messages are handled between two steps");
        while let Some(message) = self.inbox.pop_front() {
            self.handle(message, effects);
        }
        self.grant(effects);
        let plan = self.scheduler.schedule();
        if plan.sequences.is_empty() {
            self.publish(effects);
            return None;
        }
        self.begin(&plan, effects);
        let time = times.time(&work(&plan));
        self.step = Some(Step { plan, time, began: now });
        Some(time)
    }

    /// Hand-offs of prompts that are in a step for the first time.
    fn begin(&mut self, plan: &StepPlan, effects: &mut Vec<Effect>) {
        for scheduled in &plan.sequences {
            if let Some(leg) = self.legs.get_mut(&scheduled.id)
                && leg.mode == Mode::PrefillOnly
                && !leg.begun
            {
                leg.begun = true;
                effects.push(Effect::Begun {
                    turn: leg.turn,
                    cached_blocks: scheduled.start / self.block_size,
                });
            }
        }
    }

    fn handle(&mut self, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Start(leg) => self.start(*leg, effects),
            Message::GrantWanted(turn) => {
                if let Some(id) = self.ids.get(&turn) {
                    self.asking.insert(*id);
                }
            }
            Message::Delivered(turn) => self.delivered(turn, effects),
            Message::GiveUp(turn) => self.give_up(turn, effects),
            Message::Released(turn) => self.released(turn),
            Message::Cancel(turn) => self.cancel(turn, effects),
            Message::Subscribe => {
                let events =
                    self.scheduler.cached_hashes().into_iter().map(KvEvent::Stored).collect();
                // What changed up to now is in the snapshot.
                self.publish(effects);
                effects.push(Effect::State { load: self.load(), events, snapshot: true });
            }
        }
    }

    fn start(&mut self, leg: Leg, effects: &mut Vec<Effect>) {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let Leg { turn, mode, .. } = leg;
        let limits =
            Limits { max_tokens: leg.output_tokens, ignore_eos: true, ..Limits::default() };
        // Prompts are told apart by their hashes; the tokens only end up in blocks that are this turn's own.
        let prompt = vec![turn; leg.input_tokens as usize];
        let seed = crate::prompt::hash_seed();
        let (output, hashes) = (Vec::new(), leg.hashes);
        let new = NewSequence { id, prompt, output, hashes, seed, limits, mode };
        if self.scheduler.add(new).is_err() {
            effects.push(Effect::Refused { turn });
            return;
        }
        self.ids.insert(turn, id);
        self.legs.insert(
            id,
            LegState {
                turn,
                mode,
                awaits: mode == Mode::Remote,
                told: false,
                begun: false,
                abandoned: false,
            },
        );
    }

    fn delivered(&mut self, turn: u32, effects: &mut Vec<Effect>) {
        let Some(id) = self.ids.get(&turn).copied() else { return };
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.awaits = false;
        }
        let events = self.scheduler.adopt(id, turn);
        self.report(events, effects);
    }

    /// The KV does not come: the prompt is computed here.
    fn give_up(&mut self, turn: u32, effects: &mut Vec<Effect>) {
        let Some(id) = self.ids.get(&turn).copied() else { return };
        let awaits = self.legs.get_mut(&id).is_some_and(|leg| std::mem::take(&mut leg.awaits));
        if !awaits {
            return;
        }
        self.asking.remove(&id);
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.mode = Mode::Local;
        }
        effects.push(Effect::Revoked { turn });
        self.scheduler.fall_back(id);
    }

    fn released(&mut self, turn: u32) {
        let Some(id) = self.ids.get(&turn).copied() else { return };
        if self.scheduler.sequence(id).is_none() {
            self.scheduler.release_held(id);
            self.forget(id);
        } else if let Some(leg) = self.legs.get_mut(&id) {
            leg.abandoned = true;
        }
    }

    fn cancel(&mut self, turn: u32, effects: &mut Vec<Effect>) {
        let Some(id) = self.ids.get(&turn).copied() else { return };
        // Blocks that were held for a hand-off are not read any more: it was revoked.
        self.scheduler.release_held(id);
        let usage = self.scheduler.cancel(id).unwrap_or_default();
        effects.push(Effect::Finished { turn, usage });
        self.forget(id);
    }

    /// Gives every grant that there is room for, oldest leg first, never ahead of an older one that waits to be
    /// computed here.
    fn grant(&mut self, effects: &mut Vec<Effect>) {
        while let Some(&id) = self.asking.first() {
            if self.scheduler.next_waiting().is_some_and(|waiting| waiting < id) {
                return;
            }
            match self.scheduler.reserve(id) {
                Err(ReserveError::OutOfBlocks { .. } | ReserveError::BatchFull { .. }) => return,
                Err(ReserveError::Unknown) => {}
                Ok(reservation) => {
                    if let Some(leg) = self.legs.get(&id) {
                        let cached_blocks = reservation.cached_blocks as u32;
                        effects.push(Effect::Granted { turn: leg.turn, cached_blocks });
                    }
                }
            }
            self.asking.remove(&id);
        }
    }

    /// Whether nothing is left, and every block is where it belongs.
    pub(crate) fn leftover(&self) -> Option<String> {
        if let Err(error) = self.scheduler.check_integrity() {
            return Some(error.to_string());
        }
        let load = self.load();
        let idle = self.scheduler.is_idle() && load.free_blocks == load.total_blocks;
        (!idle).then(|| format!("{:?} and {load:?} when all has ended", self.legs))
    }

    /// Tokens done since the start.
    pub(crate) fn done(&self) -> Usage {
        self.scheduler.load().done
    }
}

/// What the step does, for the step-time model.
fn work(plan: &StepPlan) -> StepWork {
    let mut work = StepWork::default();
    for scheduled in &plan.sequences {
        let rows = scheduled.tokens.len() as u32;
        if rows == 1 && scheduled.samples && !scheduled.ends_prompt {
            work.sequences += 1;
            work.context_tokens += u64::from(scheduled.start) + 1;
        } else {
            work.chunks.push((rows, scheduled.start));
        }
    }
    work
}

#[cfg(test)]
mod tests;
