use super::*;
use estafette_types::{SplitMix64, Usage};
use proptest::prelude::*;

/// A worker with a known curve, whose counters go on.
struct Worker {
    truth: StepCost,
    record: LoadRecord,
}

impl Worker {
    fn new(truth: StepCost) -> Self {
        Self { truth, record: LoadRecord::default() }
    }

    /// One step with `prefill` prompt tokens behind `cached` others and `sequences` decoding ones, `noise` off the curve.
    fn step(&mut self, (cached, prefill): (u64, u64), sequences: u64, noise: f64) -> LoadRecord {
        let context = self.record.decoding_tokens as f64;
        let decode = self.truth.decode_step(sequences as f64, context);
        let attended = prefill * (cached + prefill / 2);
        let prefilling = self.truth.prefill(prefill as f64, attended as f64);
        let seconds = (decode + prefilling) * (1.0 + noise);
        self.record.prefill_attended += attended;
        let Usage { computed, generated, .. } = self.record.done;
        self.record.done.computed = computed + prefill;
        self.record.done.generated = generated + sequences;
        self.record.steps += 1;
        self.record.step_micros = (seconds * 1e6).round() as u64;
        self.record
    }

    /// What the next step will find.
    fn decoding(&mut self, sequences: u64, tokens: u64) {
        self.record.decoding_sequences = sequences;
        self.record.decoding_tokens = tokens;
    }
}

/// Two cores of a laptop.
const SLOW: StepCost = StepCost {
    base: 0.003,
    per_prefill_token: 4e-4,
    per_sequence: 3e-4,
    per_context_token: 2e-7,
    per_attended_token: 1e-7,
};

/// Mixed steps, as a decode worker has them that prefills too.
fn train(model: &mut StepModel, worker: &mut Worker, steps: u64, noise: f64) {
    let mut rng = SplitMix64::new(steps);
    for _ in 0..steps {
        let sequences = rng.below(32);
        worker.decoding(sequences, sequences * (100 + rng.below(2_000)));
        model.observe(&worker.record);
        let error = (rng.below(2_001) as f64 / 1_000.0 - 1.0) * noise;
        let prefill = rng.below(2) * rng.below(512);
        let record = worker.step((rng.below(4_000), prefill), sequences, error);
        model.observe(&record);
    }
}

fn assert_near(found: StepCost, truth: StepCost, tolerance: f64) {
    for (prefill, sequences, context) in
        [(512.0, 0.0, 0.0), (0.0, 16.0, 20_000.0), (100.0, 4.0, 900.0)]
    {
        let seconds = |cost: StepCost| {
            cost.decode_step(sequences, context) + cost.prefill(prefill, prefill * 1_000.0)
        };
        let error = seconds(found) / seconds(truth) - 1.0;
        assert!(error.abs() < tolerance, "{error}: {found:?}");
    }
}

#[test]
fn the_curve_is_found_through_noise() {
    let (mut model, mut worker) = (StepModel::default(), Worker::new(SLOW));
    train(&mut model, &mut worker, 400, 0.1);
    assert_near(model.cost(), SLOW, 0.05);
}

#[test]
fn a_worker_that_becomes_slower_is_found_out() {
    let (mut model, mut worker) = (StepModel::default(), Worker::new(SLOW));
    train(&mut model, &mut worker, 400, 0.02);
    worker.truth.base *= 3.0;
    worker.truth.per_prefill_token *= 3.0;
    train(&mut model, &mut worker, 1_500, 0.02);
    assert_near(model.cost(), worker.truth, 0.05);
}

/// A prefill worker shows nothing about decoding.
#[test]
fn a_term_without_evidence_keeps_its_prior() {
    let prior = StepCost { per_sequence: 7e-4, ..StepCost::default() };
    let (mut model, mut worker) = (StepModel::new(prior), Worker::new(SLOW));
    for step in 0..1_000 {
        let record = worker.step((step % 3_000, 128 + step % 384), 0, 0.0);
        model.observe(&record);
    }
    let cost = model.cost();
    assert!((cost.per_sequence / 7e-4 - 1.0).abs() < 1e-6, "{cost:?}");
    assert!((cost.per_prefill_token / SLOW.per_prefill_token - 1.0).abs() < 0.02, "{cost:?}");
}

#[test]
fn a_few_steps_are_enough_to_leave_a_wrong_prior() {
    let (mut model, mut worker) = (StepModel::default(), Worker::new(SLOW));
    for _ in 0..4 {
        let record = worker.step((0, 512), 0, 0.0);
        model.observe(&record);
    }
    let of = |cost: StepCost| cost.base + cost.prefill(512.0, 512.0 * 256.0);
    let (predicted, truth) = (of(model.cost()), of(SLOW));
    assert!((predicted / truth - 1.0).abs() < 0.05, "{predicted} for {truth}");
}

/// After a gap, a reconnection or a restart the difference of two records is not one step.
#[test]
fn records_that_are_not_of_consecutive_steps_teach_nothing() {
    let mut model = StepModel::default();
    let record = |steps, computed| LoadRecord {
        steps,
        step_micros: 5_000_000,
        done: Usage { computed, ..Usage::default() },
        ..LoadRecord::default()
    };
    for (steps, computed) in [(10, 100), (12, 200), (12, 200), (3, 5), (4, 1)] {
        model.observe(&record(steps, computed));
        assert_eq!(model.cost(), StepCost::default());
    }
    model.observe(&record(5, 2));
    assert_ne!(model.cost(), StepCost::default());
}

proptest! {
    #[test]
    fn whatever_is_observed_no_term_is_negative_or_not_a_number(
        steps in proptest::collection::vec((0..9_000u64, 0..600u64, 0..9_000_000u64, 0..90_000_000u64), 1..60),
    ) {
        let (mut model, mut record) = (StepModel::default(), LoadRecord::default());
        for (prefill, sequences, context, micros) in steps {
            model.observe(&record);
            record.steps += 1;
            record.done.computed += prefill;
            record.done.generated += sequences;
            record.step_micros = micros;
            model.observe(&record);
            record.decoding_sequences = sequences;
            record.decoding_tokens = context;
            let cost = model.cost();
            for term in [cost.base, cost.per_prefill_token, cost.per_sequence, cost.per_context_token] {
                prop_assert!(term.is_finite() && term >= 0.0, "{:?}", cost);
            }
        }
    }
}

/// The same chunk takes longer behind a long context, and the model knows by how much.
#[test]
fn the_price_of_a_long_context_is_learned() {
    let (mut model, mut worker) = (StepModel::default(), Worker::new(SLOW));
    let mut rng = SplitMix64::new(1);
    for _ in 0..400 {
        let record = worker.step((rng.below(20_000), 1 + rng.below(512)), 0, 0.0);
        model.observe(&record);
    }
    let of = |cost: StepCost, cached: f64| cost.base + cost.prefill(512.0, 512.0 * cached);
    for cached in [256.0, 16_000.0] {
        let error = of(model.cost(), cached) / of(SLOW, cached) - 1.0;
        assert!(error.abs() < 0.02, "{error} behind {cached}");
    }
}
