//! The workers that a router knows, by slot: what they can do, their newest load, their curve, their receipts.
//!
//! One type for the router and the simulator: both feed it what workers say and ask it for decisions.

mod curves;
mod openings;

use crate::candidate::Candidate;
use crate::choose::choose;
use crate::explain::explain;
use crate::standing::{Facts, Standing};
use crate::{
    Booking, Choice, Decision, Explanation, NoChoice, Receipt, Receipts, Request, RoutingConfig,
};
use curves::{Curves, Shown};
use estafette_types::{LoadRecord, Role, SplitMix64};

/// What a worker says of itself when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerTraits {
    /// Its pool.
    pub role: Role,
    /// The most sequences it runs at once.
    pub max_num_seqs: u32,
    /// The most sequences it lets wait.
    pub max_waiting: u32,
    /// The most tokens of one step.
    pub max_num_batched_tokens: u32,
    /// KV blocks can be handed to it; else it prefills for itself.
    pub takes_kv: bool,
    /// Hash of its name: sessions find it again by it, also from other routers.
    pub name_hash: u64,
}

/// A worker of the fleet.
#[derive(Clone, Debug)]
pub struct FleetWorker {
    traits: WorkerTraits,
    load: LoadRecord,
    draining: bool,
    synced: bool,
    /// It has refused a leg since its last record, so it is full whatever that says.
    refused: bool,
    step: Shown,
    /// KV tokens that a row of a prompt has attended to, on average.
    mean_attended: f64,
}

impl FleetWorker {
    /// What it said when it joined.
    pub fn traits(&self) -> WorkerTraits {
        self.traits
    }

    /// Its newest load record; zeros before the first one.
    pub fn load(&self) -> &LoadRecord {
        &self.load
    }

    /// Its state is known and it is not leaving.
    pub fn can_be_chosen(&self) -> bool {
        self.synced && !self.draining
    }

    /// It has said that it leaves.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    fn max_waiting(&self) -> u32 {
        if self.refused { 0 } else { self.traits.max_waiting }
    }
}

/// What [`Fleet::longest_step`] says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongestStep {
    /// How long it is believed to take.
    pub seconds: f64,
    /// From steps of this worker; else it is what others are like, or a guess.
    pub learned: bool,
}

/// All workers. Slots are small numbers that the caller gives out.
#[derive(Debug, Default)]
pub struct Fleet {
    workers: Vec<Option<FleetWorker>>,
    /// How those whose state is known stand, by slot: always up to date, but for curves of workers that have not shown their
    /// own and follow their pool's, which are brought up to date in turn.
    standings: Vec<Option<(Role, Standing)>>,
    next_in_turn: usize,
    receipts: Receipts,
    curves: Curves,
    config: RoutingConfig,
}

impl Fleet {
    /// Nobody yet.
    pub fn new(config: RoutingConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The worker in `slot`.
    pub fn worker(&self, slot: u32) -> Option<&FleetWorker> {
        self.workers.get(slot as usize)?.as_ref()
    }

    fn worker_mut(&mut self, slot: u32) -> Option<&mut FleetWorker> {
        self.workers.get_mut(slot as usize)?.as_mut()
    }

    /// All of them, by slot.
    pub fn workers(&self) -> impl Iterator<Item = (u32, &FleetWorker)> {
        (0..).zip(&self.workers).filter_map(|(slot, worker)| Some((slot, worker.as_ref()?)))
    }

    /// How many of a pool can be chosen.
    pub fn count(&self, role: Role) -> usize {
        self.workers().filter(|(_, w)| w.traits.role == role && w.can_be_chosen()).count()
    }

    /// A worker joins; it can be chosen once [`Fleet::heard`] has its first load. Whoever had the slot is gone.
    pub fn join(&mut self, slot: u32, traits: WorkerTraits) {
        self.leave(slot);
        let step = self.curves.newcomer(traits.role, self.workers.len());
        let index = slot as usize;
        if index >= self.workers.len() {
            self.workers.resize_with(index + 1, || None);
            self.standings.resize_with(index + 1, || None);
        }
        self.workers[index] = Some(FleetWorker {
            traits,
            load: LoadRecord::default(),
            draining: false,
            synced: false,
            refused: false,
            step,
            mean_attended: 0.0,
        });
    }

    /// The worker is gone and its receipts with it.
    pub fn leave(&mut self, slot: u32) {
        if let Some(worker) = self.workers.get_mut(slot as usize) {
            *worker = None;
            self.receipts.worker_gone(slot);
            self.reconsider(slot);
        }
    }

    /// What a worker says of itself. Whether it starts or stops to be one that can be chosen.
    pub fn heard(&mut self, slot: u32, load: &LoadRecord, draining: bool) -> bool {
        let Some(worker) = self.workers.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        let before = worker.can_be_chosen();
        (worker.load, worker.draining, worker.synced) = (*load, draining, true);
        worker.refused = false;
        let rows = load.done.computed + load.done.recomputed;
        worker.mean_attended = load.prefill_attended as f64 / rows.max(1) as f64;
        let changed = before != worker.can_be_chosen();
        self.curves.observe(&mut worker.step, worker.traits.role, load);
        self.receipts.on_load(slot, load);
        self.reconsider(slot);
        self.reconsider_next();
        changed
    }

    /// The longest that a step of the worker is believed to take, in seconds: as many prompt tokens as fit, each of which attends
    /// to `context` tokens of KV, and all the sequences that may run.
    pub fn longest_step(&self, slot: u32, context: u32) -> Option<LongestStep> {
        let worker = self.worker(slot)?;
        let WorkerTraits { role, max_num_seqs, max_num_batched_tokens, .. } = worker.traits;
        let cost = self.curves.cost(&worker.step, role, self.workers.len());
        let (rows, sequences) = (f64::from(max_num_batched_tokens), f64::from(max_num_seqs));
        let context = f64::from(context);
        let seconds =
            cost.decode_step(sequences, sequences * context) + cost.prefill(rows, rows * context);
        Some(LongestStep { seconds, learned: worker.step.is_shown() })
    }

    /// Brings a worker's standing up to date.
    fn reconsider(&mut self, slot: u32) {
        let index = slot as usize;
        let worker = self.workers.get(index).and_then(Option::as_ref);
        let standing = worker.filter(|worker| worker.synced).map(|worker| {
            let WorkerTraits { role, max_num_seqs, max_num_batched_tokens, .. } = worker.traits;
            let facts = Facts {
                load: worker.load,
                draining: worker.draining,
                max_num_seqs,
                max_waiting: worker.max_waiting(),
                steps_per_token: 1.0 / f64::from(max_num_batched_tokens.max(1)),
                pending: self.receipts.pending(slot),
                step: self.curves.cost(&worker.step, role, self.workers.len()),
                mean_attended: worker.mean_attended,
            };
            (role, Standing::new(&facts))
        });
        if let Some(place) = self.standings.get_mut(index) {
            *place = standing;
        }
    }

    /// One more with each piece of news: idle workers send none, and their pool's curve moves.
    fn reconsider_next(&mut self) {
        self.next_in_turn = (self.next_in_turn + 1) % self.workers.len().max(1);
        self.reconsider(self.next_in_turn as u32);
    }

    /// The worker has refused a leg because its queue is full; its next record says when it is not.
    pub fn refused(&mut self, slot: u32) {
        if let Some(worker) = self.worker_mut(slot) {
            // An idle worker sends no record that would take this back: its last one is newer than the refusal.
            worker.refused = worker.load.sequences() > 0;
            self.reconsider(slot);
        }
    }

    /// The worker's state is not known any more.
    pub fn unsynced(&mut self, slot: u32) {
        if let Some(worker) = self.worker_mut(slot) {
            worker.synced = false;
            self.reconsider(slot);
        }
    }

    /// Chooses for `request` among the workers that `allowed` lets pass; `cached` says how many blocks of the prompt a
    /// slot holds, and is asked in the order of the slots. Book the legs in the same breath.
    ///
    /// # Errors
    /// When no decode worker can take it.
    pub fn choose(
        &self,
        request: &Request,
        cached: impl FnMut(u32) -> u32,
        allowed: impl Fn(u32) -> bool,
        rng: &mut SplitMix64,
    ) -> Result<Decision, NoChoice> {
        let (prefill, decode) = self.candidates(request, cached, allowed);
        let decision = choose(request, &prefill, &decode, &self.config, rng)?;
        match decision.choice {
            Choice::Disaggregated { decode, .. }
                if self.worker(decode).is_none_or(|worker| !worker.traits.takes_kv) =>
            {
                Ok(Decision { choice: Choice::Aggregated { decode }, ..decision })
            }
            _ => Ok(decision),
        }
    }

    /// Every term of the same decision.
    pub fn explain(&self, request: &Request, cached: impl FnMut(u32) -> u32) -> Explanation {
        let (prefill, decode) = self.candidates(request, cached, |_| true);
        explain(request, &prefill, &decode, &self.config)
    }

    /// Both pools, by slot.
    fn candidates(
        &self,
        request: &Request,
        mut cached: impl FnMut(u32) -> u32,
        allowed: impl Fn(u32) -> bool,
    ) -> (Vec<Candidate<'_>>, Vec<Candidate<'_>>) {
        let (mut prefill, mut decode) = (Vec::new(), Vec::with_capacity(self.standings.len()));
        for (slot, standing) in (0..).zip(&self.standings) {
            let Some((role, standing)) = standing.as_ref().filter(|_| allowed(slot)) else {
                continue;
            };
            let pool = match role {
                Role::Prefill => &mut prefill,
                Role::Decode => &mut decode,
            };
            let (cached_blocks, affinity) = (cached(slot), self.affinity(request, slot));
            pool.push(Candidate { slot, standing, cached_blocks, affinity });
        }
        (prefill, decode)
    }

    fn affinity(&self, request: &Request, slot: u32) -> u64 {
        let worker = request.session.and_then(|session| Some((session, self.worker(slot)?)));
        worker.map_or(0, |(session, worker)| affinity(session, worker.traits.name_hash))
    }

    /// Books a leg on a worker that holds `cached` blocks of the prompt; `computes` when the prompt is computed there.
    pub fn book(&mut self, slot: u32, request: &Request, cached: u32, computes: bool) -> Receipt {
        let prefill_tokens = if computes { request.uncached_tokens(cached) } else { 0 };
        let booking = Booking { prefill_tokens, context_tokens: request.prompt_tokens };
        let receipt = self.receipts.dispatched(slot, booking);
        self.reconsider(slot);
        receipt
    }

    /// A leg's first event came: the worker counts it itself.
    pub fn taken_in(&mut self, receipt: &Receipt) {
        self.receipts.taken_in(receipt);
        self.reconsider(receipt.slot());
    }

    /// A leg has ended, whatever ended it.
    pub fn finished(&mut self, receipt: Receipt) {
        let slot = receipt.slot();
        self.receipts.finished(receipt);
        self.reconsider(slot);
    }
}

/// Rendezvous hashing (Thaler and Ravishankar, 1998): no table, and a worker that comes or goes moves only its own sessions.
fn affinity(session: u64, name_hash: u64) -> u64 {
    SplitMix64::new(session ^ name_hash).next_u64()
}

#[cfg(test)]
mod tests;
