//! The workers that a router knows, by slot: what they can do, their newest load, their curve, their receipts.
//!
//! One type for the router and the simulator: both feed it what workers say and ask it for decisions.

use crate::{
    Booking, Candidate, Choice, Decision, Explanation, NoChoice, Receipt, Receipts, Request,
    RoutingConfig, StepCost, StepModel, choose, explain,
};
use estafette_types::{LoadRecord, Role, SplitMix64};

mod openings;

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
    /// One over the most tokens of a step.
    steps_per_token: f64,
}

/// A curve and how old it is.
#[derive(Clone, Debug, Default)]
struct Shown {
    model: StepModel,
    /// How many steps with prompt tokens the fleet had seen at the last one of these.
    at: u64,
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

    fn max_waiting(&self) -> u32 {
        if self.refused { 0 } else { self.traits.max_waiting }
    }
}

/// All workers. Slots are small numbers that the caller gives out.
#[derive(Debug, Default)]
pub struct Fleet {
    workers: Vec<Option<FleetWorker>>,
    receipts: Receipts,
    config: RoutingConfig,
    /// Curves of a pool and of all, for workers that have not shown their own.
    prefill_step: Shown,
    decode_step: Shown,
    any_step: StepModel,
    /// Steps with prompt tokens, of all workers.
    prefill_steps: u64,
}

/// Steps of its own that make a worker's curve better than its pool's.
const SHOWN_MIN: u64 = 3;
/// After so many steps with prompt tokens for each worker, one that has shown none is taken to be like the others: what it showed may
/// have been a bad moment, and whoever is thought slow gets no chance to show better.
const STALE_AFTER: u64 = 200;

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
        let model = StepModel::new(self.pool_cost(traits.role));
        let index = slot as usize;
        if index >= self.workers.len() {
            self.workers.resize_with(index + 1, || None);
        }
        self.workers[index] = Some(FleetWorker {
            traits,
            load: LoadRecord::default(),
            draining: false,
            synced: false,
            refused: false,
            step: Shown { model, at: self.prefill_steps },
            mean_attended: 0.0,
            steps_per_token: 1.0 / f64::from(traits.max_num_batched_tokens.max(1)),
        });
    }

    /// What a worker's curve is taken to be without steps of its own: that of its pool, else of all.
    fn pool_cost(&self, role: Role) -> StepCost {
        let pool = match role {
            Role::Prefill => &self.prefill_step,
            Role::Decode => &self.decode_step,
        };
        self.cost_of(pool, role, self.any_step.cost())
    }

    /// A curve as far as it was shown, and not too long ago; the rest from `others`.
    fn cost_of(&self, shown: &Shown, role: Role, others: StepCost) -> StepCost {
        let model = &shown.model;
        let stale = STALE_AFTER * self.workers.len() as u64;
        if self.prefill_steps - shown.at <= stale && model.prefills_seen() >= SHOWN_MIN {
            return model.cost();
        }
        // It decodes all the time; only how it prefills is not known, or not any more.
        if role == Role::Decode && model.seen() >= SHOWN_MIN {
            return StepCost {
                per_prefill_token: others.per_prefill_token,
                per_attended_token: others.per_attended_token,
                ..model.cost()
            };
        }
        others
    }

    /// The worker is gone and its receipts with it.
    pub fn leave(&mut self, slot: u32) {
        if let Some(worker) = self.workers.get_mut(slot as usize) {
            *worker = None;
            self.receipts.worker_gone(slot);
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
        if let Some(observation) = worker.step.model.observe(load) {
            let pool = match worker.traits.role {
                Role::Prefill => &mut self.prefill_step,
                Role::Decode => &mut self.decode_step,
            };
            pool.model.learn(&observation);
            self.any_step.learn(&observation);
            if observation.prefills() {
                self.prefill_steps += 1;
                (pool.at, worker.step.at) = (self.prefill_steps, self.prefill_steps);
            }
        }
        self.receipts.on_load(slot, load);
        changed
    }

    /// The worker has refused a leg because its queue is full; its next record says when it is not.
    pub fn refused(&mut self, slot: u32) {
        if let Some(worker) = self.worker_mut(slot) {
            worker.refused = true;
        }
    }

    /// The worker's state is not known any more.
    pub fn unsynced(&mut self, slot: u32) {
        if let Some(worker) = self.worker_mut(slot) {
            worker.synced = false;
        }
    }

    /// Chooses for `request` among the workers that `allowed` lets pass; `cached` says how many blocks of the prompt a
    /// slot holds. Book the legs in the same breath.
    ///
    /// # Errors
    /// When no decode worker can take it.
    pub fn choose(
        &self,
        request: &Request,
        cached: impl Fn(u32) -> u32,
        allowed: impl Fn(u32) -> bool,
        rng: &mut SplitMix64,
    ) -> Result<Decision, NoChoice> {
        let pool = |role| self.candidates(role, request, &cached, &allowed);
        let (prefill, decode) = (pool(Role::Prefill), pool(Role::Decode));
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
    pub fn explain(&self, request: &Request, cached: impl Fn(u32) -> u32) -> Explanation {
        let pool = |role| self.candidates(role, request, &cached, &|_| true);
        explain(request, &pool(Role::Prefill), &pool(Role::Decode), &self.config)
    }

    fn candidates(
        &self,
        role: Role,
        request: &Request,
        cached: &impl Fn(u32) -> u32,
        allowed: &impl Fn(u32) -> bool,
    ) -> Vec<Candidate> {
        let pool_cost = self.pool_cost(role);
        self.workers()
            .filter(|(_, worker)| worker.traits.role == role && worker.can_be_chosen())
            .filter(|(slot, _)| allowed(*slot))
            .map(|(slot, worker)| Candidate {
                slot,
                load: worker.load,
                draining: worker.draining,
                cached_blocks: cached(slot),
                max_num_seqs: worker.traits.max_num_seqs,
                max_waiting: worker.max_waiting(),
                steps_per_token: worker.steps_per_token,
                pending: self.receipts.pending(slot),
                step: self.cost_of(&worker.step, role, pool_cost),
                mean_attended: worker.mean_attended,
                affinity: affinity(request.session, worker.traits.name_hash),
            })
            .collect()
    }

    /// Books a leg on a worker that holds `cached` blocks of the prompt; `computes` when the prompt is computed there.
    pub fn book(&mut self, slot: u32, request: &Request, cached: u32, computes: bool) -> Receipt {
        let prefill_tokens = if computes { request.uncached_tokens(cached) } else { 0 };
        let booking = Booking { prefill_tokens, context_tokens: request.prompt_tokens };
        self.receipts.dispatched(slot, booking)
    }

    /// A leg's first event came: the worker counts it itself.
    pub fn taken_in(&mut self, receipt: &Receipt) {
        self.receipts.taken_in(receipt);
    }

    /// A leg has ended, whatever ended it.
    pub fn finished(&mut self, receipt: Receipt) {
        self.receipts.finished(receipt);
    }
}

/// Rendezvous hashing (Thaler and Ravishankar, 1998): no table, and a worker that comes or goes moves only its own sessions.
fn affinity(session: Option<u64>, name_hash: u64) -> u64 {
    session.map_or(0, |session| SplitMix64::new(session ^ name_hash).next_u64())
}

#[cfg(test)]
mod tests;
