//! What is known of how long steps take: each worker's own curve, and those of the pools for workers that have not shown theirs.

use crate::{StepCost, StepModel};
use estafette_types::{LoadRecord, Role};

/// Steps of its own that make a worker's curve better than its pool's.
const SHOWN_MIN: u64 = 3;
/// After so many steps with prompt tokens for each worker, one that has shown none is taken to be like the others: what it
/// showed may have been a bad moment, and whoever is thought slow gets no chance to show better.
const STALE_AFTER: u64 = 200;

/// A curve and how old it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    model: StepModel,
    /// How many steps with prompt tokens the fleet had seen at the last one of these.
    at: u64,
}

impl Shown {
    /// It has prefilled often enough to be known by its own steps.
    pub(super) fn is_shown(&self) -> bool {
        self.model.prefills_seen() >= SHOWN_MIN
    }
}

/// The curves of the pools.
#[derive(Debug, Default)]
pub(super) struct Curves {
    prefill: Shown,
    decode: Shown,
    any: StepModel,
    /// Steps with prompt tokens, of all workers.
    prefill_steps: u64,
}

impl Curves {
    /// Of a worker that joins a fleet of `workers`.
    pub(super) fn newcomer(&self, role: Role, workers: usize) -> Shown {
        Shown { model: StepModel::new(self.pool_cost(role, workers)), at: self.prefill_steps }
    }

    /// What a worker's curve is taken to be.
    pub(super) fn cost(&self, shown: &Shown, role: Role, workers: usize) -> StepCost {
        self.cost_or(shown, role, workers, || self.pool_cost(role, workers))
    }

    /// That of the pool, else of all.
    fn pool_cost(&self, role: Role, workers: usize) -> StepCost {
        let pool = match role {
            Role::Prefill => &self.prefill,
            Role::Decode => &self.decode,
        };
        self.cost_or(pool, role, workers, || self.any.cost())
    }

    /// A curve as far as it was shown, and not too long ago; the rest from `others`.
    fn cost_or(
        &self,
        shown: &Shown,
        role: Role,
        workers: usize,
        others: impl Fn() -> StepCost,
    ) -> StepCost {
        let model = &shown.model;
        let fresh = self.prefill_steps - shown.at <= STALE_AFTER * workers as u64;
        if fresh && shown.is_shown() {
            return model.cost();
        }
        let others = others();
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

    /// Learns from a worker's newest record.
    pub(super) fn observe(&mut self, shown: &mut Shown, role: Role, load: &LoadRecord) {
        let Some(observation) = shown.model.observe(load) else { return };
        self.any.learn(&observation);
        let pool = match role {
            Role::Prefill => &mut self.prefill,
            Role::Decode => &mut self.decode,
        };
        pool.model.learn(&observation);
        if observation.prefills() {
            self.prefill_steps += 1;
            (pool.at, shown.at) = (self.prefill_steps, self.prefill_steps);
        }
    }
}
