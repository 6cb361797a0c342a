//! Each worker's step-time curve, learned from its load records.
//!
//! A step takes `base + per_prefill_token·p + per_sequence·n + per_context_token·c` seconds for `p` prompt tokens, `n`
//! decoding sequences and `c` tokens of their KV. Two records of consecutive steps give one observation: the counters'
//! differences are what the step did and `step_micros` is how long it took. The curve is the least-squares fit of all
//! observations with exponential forgetting, held by a prior that never fades: a term that the worker's traffic does
//! not show, such as decoding on a prefill worker, keeps its prior instead of drifting.

use estafette_types::LoadRecord;

const TERMS: usize = 4;
/// Weight of an observation after one more: about the last 200 steps count.
const MEMORY: f64 = 0.995;
/// How many observations the prior weighs.
const PRIOR_WEIGHT: f64 = 0.05;
/// A typical step: it makes the prior equally firm about each term.
const TYPICAL: [f64; TERMS] = [1.0, 512.0, 16.0, 16_384.0];

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
}

impl Default for StepCost {
    /// Between a laptop's two cores and a data centre's GPU; a few steps correct it.
    fn default() -> Self {
        Self { base: 0.004, per_prefill_token: 1e-4, per_sequence: 1e-4, per_context_token: 1e-8 }
    }
}

impl StepCost {
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

/// Learns one worker's curve, or that of several that are alike.
#[derive(Clone, Debug)]
pub struct StepModel {
    prior: StepCost,
    seen: u64,
    /// Σ x·xᵀ and Σ x·y, forgetting.
    squares: [[f64; TERMS]; TERMS],
    products: [f64; TERMS],
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
            squares: [[0.0; TERMS]; TERMS],
            products: [0.0; TERMS],
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
        let terms = [1.0, prefill as f64, sequences as f64, last.decoding_tokens as f64];
        let observation = Observation { terms, seconds: record.step_micros as f64 * 1e-6 };
        self.learn(&observation);
        Some(observation)
    }

    /// Learns from another worker's step.
    pub fn learn(&mut self, observation: &Observation) {
        let Observation { terms: x, seconds } = *observation;
        self.seen += 1;
        for (i, row) in self.squares.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                *sum = *sum * MEMORY + x[i] * x[j];
            }
            self.products[i] = self.products[i] * MEMORY + x[i] * seconds;
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
                let [base, per_prefill_token, per_sequence, per_context_token] = terms;
                return StepCost { base, per_prefill_token, per_sequence, per_context_token };
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
        ];
        let mut matrix = [[0.0; TERMS]; TERMS];
        let mut right = [0.0; TERMS];
        for i in 0..TERMS {
            if fixed[i] {
                matrix[i][i] = 1.0;
                continue;
            }
            for j in (0..TERMS).filter(|&j| !fixed[j]) {
                matrix[i][j] = self.squares[i][j] / (TYPICAL[i] * TYPICAL[j]);
            }
            matrix[i][i] += PRIOR_WEIGHT;
            right[i] = self.products[i] / TYPICAL[i] + PRIOR_WEIGHT * prior[i] * TYPICAL[i];
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
