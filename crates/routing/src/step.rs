//! Each worker's step-time curve, learned from its load records.
//!
//! A step takes `base + per_prefill_token·p + per_sequence·n + per_context_token·c + per_attended_token·a` seconds for `p`
//! prompt tokens whose rows attend to `a` tokens of KV, and `n` decoding sequences with `c` tokens of KV. Two records of
//! consecutive steps give one observation: the counters'
//! differences are what the step did and `step_micros` is how long it took. The curve is the least-squares fit of all
//! observations with exponential forgetting, held by a prior that never fades: a term that the worker's traffic does
//! not show, such as decoding on a prefill worker, keeps its prior instead of drifting. Steps with prompt tokens and steps
//! without are forgotten apart, so that an hour of decoding does not make a worker forget how fast it prefills.

use estafette_types::LoadRecord;

const TERMS: usize = 5;
/// Weight of an observation after one more of its kind: about the last 200 steps count.
const MEMORY: f64 = 0.995;
/// How many observations the prior weighs.
const PRIOR_WEIGHT: f64 = 0.05;
/// A typical step: it makes the prior equally firm about each term.
const TYPICAL: [f64; TERMS] = [1.0, 512.0, 16.0, 16_384.0, 1e6];

/// A step-time curve. All in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCost {
    /// Of any step.
    pub base: f64,
    /// For each prompt token computed.
    pub per_prefill_token: f64,
    /// For each decoding sequence.
    pub per_sequence: f64,
    /// For each token of KV that those sequences hold.
    pub per_context_token: f64,
    /// For each token of KV that a prompt's row attends to.
    pub per_attended_token: f64,
}

impl Default for StepCost {
    /// Between a laptop's two cores and a data centre's GPU; a few steps correct it.
    fn default() -> Self {
        Self {
            base: 0.004,
            per_prefill_token: 1e-4,
            per_sequence: 1e-4,
            per_context_token: 1e-8,
            per_attended_token: 1e-9,
        }
    }
}

impl StepCost {
    /// Of computing `tokens` prompt tokens whose rows attend to `attended` tokens of KV, the steps themselves apart.
    pub fn prefill(&self, tokens: f64, attended: f64) -> f64 {
        self.per_prefill_token * tokens + self.per_attended_token * attended
    }

    /// Of a step that computes no prompt.
    pub fn decode_step(&self, sequences: f64, context: f64) -> f64 {
        self.base + self.per_sequence * sequences + self.per_context_token * context
    }
}

/// What one step did and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    terms: [f64; TERMS],
    seconds: f64,
}

impl Observation {
    /// Prompt tokens were computed.
    pub fn prefills(&self) -> bool {
        self.terms[1] > 0.0
    }
}

/// Σ x·xᵀ and Σ x·y, forgetting.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    squares: [[f64; TERMS]; TERMS],
    products: [f64; TERMS],
}

impl Sums {
    fn add(&mut self, observation: &Observation) {
        let Observation { terms: x, seconds } = observation;
        for (i, row) in self.squares.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                *sum = *sum * MEMORY + x[i] * x[j];
            }
            self.products[i] = self.products[i] * MEMORY + x[i] * seconds;
        }
    }
}

/// Learns one worker's curve, or that of several that are alike.
#[derive(Clone, Debug)]
pub struct StepModel {
    prior: StepCost,
    seen: u64,
    prefills_seen: u64,
    /// Of steps with prompt tokens.
    prefilling: Sums,
    /// Of steps without.
    decoding: Sums,
    last: Option<LoadRecord>,
    cost: StepCost,
}

impl Default for StepModel {
    fn default() -> Self {
        Self::new(StepCost::default())
    }
}

impl StepModel {
    /// A model that knows nothing yet. A good prior is what another worker of the pool has learned.
    pub fn new(prior: StepCost) -> Self {
        Self {
            prior,
            seen: 0,
            prefills_seen: 0,
            prefilling: Sums::default(),
            decoding: Sums::default(),
            last: None,
            cost: prior,
        }
    }

    /// What is known.
    pub fn cost(&self) -> StepCost {
        self.cost
    }

    /// How many steps it has learned from.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many of them computed prompt tokens.
    pub fn prefills_seen(&self) -> u64 {
        self.prefills_seen
    }

    /// A record came; what was learned from it. Records must be of one incarnation and in order; missing ones only cost their
    /// observations.
    pub fn observe(&mut self, record: &LoadRecord) -> Option<Observation> {
        let last = self.last.replace(*record)?;
        if record.steps != last.steps + 1 {
            return None;
        }
        let computed = |load: &LoadRecord| load.done.computed + load.done.recomputed;
        let prefill = computed(record).checked_sub(computed(&last))?;
        let generated = record.done.generated.checked_sub(last.done.generated)?;
        // A prompt that ends in this step generates a token too, but not in a decode row.
        let sequences = generated.min(last.decoding_sequences);
        let attended = record.prefill_attended.checked_sub(last.prefill_attended)?;
        let context = last.decoding_tokens;
        let terms = [1.0, prefill as f64, sequences as f64, context as f64, attended as f64];
        let observation = Observation { terms, seconds: record.step_micros as f64 * 1e-6 };
        self.learn(&observation);
        Some(observation)
    }

    /// Learns from another worker's step.
    pub fn learn(&mut self, observation: &Observation) {
        self.seen += 1;
        self.prefills_seen += u64::from(observation.prefills());
        if observation.prefills() {
            self.prefilling.add(observation);
        } else {
            self.decoding.add(observation);
        }
        self.cost = self.fit();
    }

    /// The best curve without negative terms: a term that comes out negative is fixed at zero and the rest fitted again.
    fn fit(&self) -> StepCost {
        let mut fixed = [false; TERMS];
        loop {
            let terms = self.solve(fixed);
            let Some(worst) = (0..TERMS)
                .filter(|&i| terms[i] < 0.0)
                .min_by(|&a, &b| (terms[a] * TYPICAL[a]).total_cmp(&(terms[b] * TYPICAL[b])))
            else {
                let [base, per_prefill_token, per_sequence, per_context_token, per_attended_token] =
                    terms;
                return StepCost {
                    base,
                    per_prefill_token,
                    per_sequence,
                    per_context_token,
                    per_attended_token,
                };
            };
            fixed[worst] = true;
        }
    }

    /// Solves the normal equations, in units of a typical step.
    fn solve(&self, fixed: [bool; TERMS]) -> [f64; TERMS] {
        let prior = [
            self.prior.base,
            self.prior.per_prefill_token,
            self.prior.per_sequence,
            self.prior.per_context_token,
            self.prior.per_attended_token,
        ];
        let mut matrix = [[0.0; TERMS]; TERMS];
        let mut right = [0.0; TERMS];
        for i in 0..TERMS {
            if fixed[i] {
                matrix[i][i] = 1.0;
                continue;
            }
            for j in (0..TERMS).filter(|&j| !fixed[j]) {
                let sum = self.prefilling.squares[i][j] + self.decoding.squares[i][j];
                matrix[i][j] = sum / (TYPICAL[i] * TYPICAL[j]);
            }
            matrix[i][i] += PRIOR_WEIGHT;
            let sum = self.prefilling.products[i] + self.decoding.products[i];
            right[i] = sum / TYPICAL[i] + PRIOR_WEIGHT * prior[i] * TYPICAL[i];
        }
        let mut solution = solve_positive(matrix, right);
        for (value, typical) in solution.iter_mut().zip(TYPICAL) {
            *value /= typical;
        }
        solution
    }
}

/// Solves `matrix · x = right` for a positive definite matrix: elimination without pivoting.
fn solve_positive(mut matrix: [[f64; TERMS]; TERMS], mut right: [f64; TERMS]) -> [f64; TERMS] {
    for i in 0..TERMS {
        for row in i + 1..TERMS {
            let factor = matrix[row][i] / matrix[i][i];
            let pivot = matrix[i];
            for (value, above) in matrix[row].iter_mut().zip(pivot) {
                *value -= factor * above;
            }
            right[row] -= factor * right[i];
        }
    }
    for i in (0..TERMS).rev() {
        let known: f64 = (i + 1..TERMS).map(|j| matrix[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests;
