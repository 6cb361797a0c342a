//! From measured steps to step times.
//!
//! Least squares of relative errors without negative terms. A line is kept where it is close; else a table over every
//! second size that was measured takes its place. The sizes between are left out of every fit: they say how far off it is.

mod least_squares;

use crate::error::SimulateError;
use crate::step_time::{DecodeTime, MixedTime, PrefillTime, StepTimes, StepWork, Valid};
use least_squares::{Equation, solve};
use std::collections::BTreeSet;

/// A step and how long it took, alone on its machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredStep {
    /// What it did.
    pub work: StepWork,
    /// Milliseconds.
    pub ms: f64,
}

/// What is known without measuring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// Bytes of KV of one token, all layers.
    pub kv_bytes_per_token: u64,
    /// Tokens of KV that a worker's memory holds.
    pub kv_tokens: u64,
}

/// Relative errors on steps that were left out of the fit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FitErrors {
    /// Steps.
    pub steps: usize,
    /// Half are smaller.
    pub median: f64,
    /// The largest.
    pub worst: f64,
}

/// Step times, and how far off they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// What was fitted.
    pub times: StepTimes,
    /// Of steps with prompt chunks alone.
    pub prompts: FitErrors,
    /// Of steps with decode rows alone.
    pub decodes: FitErrors,
    /// Of steps with both.
    pub mixed: FitErrors,
}

/// A line that is further off than this somewhere gives way to a table.
const LINE_ERROR_MAX: f64 = 0.1;

/// Fits the terms of [`StepTimes`] to `steps`.
///
/// # Errors
/// When there are too few steps, or what was measured cannot be.
pub fn fit(about: &Measured, steps: &[MeasuredStep]) -> Result<Fit, SimulateError> {
    let bad = |step: &MeasuredStep| !step.ms.is_finite() || step.ms <= 0.0;
    if steps.iter().any(bad) {
        return Err(SimulateError::Fit("a step must take time".into()));
    }
    let kinds = Kinds::new(steps)?;
    let prefill_ms = fit_prefill(&kinds);
    let decode_ms = fit_decode(&kinds);
    let mut times = StepTimes {
        name: about.name.clone(),
        prefill_ms,
        decode_ms,
        mixed_ms: None,
        sharing: None,
        valid: valid(steps),
        kv_bytes_per_token: about.kv_bytes_per_token,
        kv_tokens: about.kv_tokens,
    };
    times.mixed_ms = fit_mixed(&times, &kinds);
    times.check().map_err(|problem| SimulateError::Fit(problem.into()))?;
    let errors = |steps: &[&MeasuredStep]| {
        FitErrors::of(steps.iter().filter(|step| !kinds.is_fitted(step)).map(|s| error(&times, s)))
    };
    let [prompts, decodes, mixed] =
        [&kinds.prompts, &kinds.decodes, &kinds.mixed].map(|kind| errors(kind));
    Ok(Fit { prompts, decodes, mixed, times })
}

impl FitErrors {
    fn of(errors: impl Iterator<Item = f64>) -> Self {
        let mut errors: Vec<f64> = errors.collect();
        errors.sort_by(f64::total_cmp);
        let at = |i: usize| errors.get(i).copied().unwrap_or(0.0);
        let steps = errors.len();
        Self { steps, median: at(steps / 2), worst: at(steps.saturating_sub(1)) }
    }
}

fn error(times: &StepTimes, step: &MeasuredStep) -> f64 {
    (times.time(&step.work).micros as f64 / 1e3 / step.ms - 1.0).abs()
}

/// Steps by kind, and the sizes that are fitted.
struct Kinds<'a> {
    prompts: Vec<&'a MeasuredStep>,
    decodes: Vec<&'a MeasuredStep>,
    mixed: Vec<&'a MeasuredStep>,
    /// Tokens of a step's chunks.
    chunk_knots: Vec<u32>,
    /// Sequences.
    decode_knots: Vec<u32>,
}

impl<'a> Kinds<'a> {
    fn new(steps: &'a [MeasuredStep]) -> Result<Self, SimulateError> {
        let of = |chunks: bool, sequences: bool| -> Vec<&MeasuredStep> {
            let is = |s: &&MeasuredStep| {
                s.work.chunks.is_empty() != chunks && (s.work.sequences > 0) == sequences
            };
            steps.iter().filter(is).collect()
        };
        let (prompts, decodes) = (of(true, false), of(false, true));
        let chunk_knots = every_second(prompts.iter().map(|step| step.work.chunk_tokens()));
        let decode_knots = every_second(decodes.iter().map(|step| step.work.sequences));
        if chunk_knots.len() < 3 || decode_knots.len() < 3 {
            let problem = "at least four sizes of prompt chunks and of batches are needed";
            return Err(SimulateError::Fit(problem.into()));
        }
        Ok(Self { prompts, decodes, mixed: of(true, true), chunk_knots, decode_knots })
    }

    fn is_fitted(&self, step: &MeasuredStep) -> bool {
        if step.work.sequences == 0 {
            self.chunk_knots.contains(&step.work.chunk_tokens())
        } else {
            self.decode_knots.contains(&step.work.sequences)
        }
    }

    fn fitted<'b>(
        &'b self,
        steps: &'b [&'a MeasuredStep],
    ) -> impl Iterator<Item = &'a MeasuredStep> {
        steps.iter().copied().filter(|step| self.is_fitted(step))
    }
}

/// Every second value in ascending order; the smallest and the largest always.
fn every_second(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let values: Vec<u32> = values.collect::<BTreeSet<_>>().into_iter().collect();
    let last = values.len().saturating_sub(1);
    let kept = values.iter().enumerate().filter(|(i, _)| i % 2 == 0 || *i == last);
    kept.map(|(_, value)| *value).collect()
}

fn fit_prefill(kinds: &Kinds<'_>) -> PrefillTime {
    let steps = || kinds.fitted(&kinds.prompts);
    let size = |step: &MeasuredStep| f64::from(step.work.chunk_tokens());
    let line = solve(steps().map(|s| Equation::new([1.0, size(s), s.work.pairs()], s.ms)));
    if line.worst <= LINE_ERROR_MAX {
        let [base, per_token, per_token_pair] = terms(&line.terms);
        return PrefillTime { base, per_token, per_token_pair, table: Vec::new() };
    }
    let row = |s: &MeasuredStep| {
        let mut row = indicators(&kinds.chunk_knots, s.work.chunk_tokens());
        row.push(s.work.pairs());
        Equation::new(row, s.ms)
    };
    let mut found = solve(steps().map(row)).terms;
    let per_token_pair = found.pop().unwrap_or(0.0);
    let table = kinds.chunk_knots.iter().copied().zip(found).collect();
    PrefillTime { base: 0.0, per_token: 0.0, per_token_pair, table }
}

fn fit_decode(kinds: &Kinds<'_>) -> DecodeTime {
    let steps = || kinds.fitted(&kinds.decodes);
    let (size, context) = (
        |step: &MeasuredStep| f64::from(step.work.sequences),
        |step: &MeasuredStep| step.work.context_tokens as f64,
    );
    let line = solve(steps().map(|s| Equation::new([1.0, size(s), context(s)], s.ms)));
    if line.worst <= LINE_ERROR_MAX {
        let [base, per_sequence, per_context_token] = terms(&line.terms);
        let (table, table_context) = (Vec::new(), 0);
        return DecodeTime { base, per_sequence, per_context_token, table, table_context };
    }
    let row = |s: &MeasuredStep| {
        let mut row = indicators(&kinds.decode_knots, s.work.sequences);
        row.push(context(s));
        Equation::new(row, s.ms)
    };
    let mut found = solve(steps().map(row)).terms;
    let per_context_token = found.pop().unwrap_or(0.0);
    // A table is at some context; one token is as good as any.
    let at_one = |(&b, ms): (&u32, f64)| (b, ms + per_context_token * f64::from(b));
    let table = kinds.decode_knots.iter().zip(found).map(at_one).collect();
    DecodeTime { base: 0.0, per_sequence: 0.0, per_context_token, table, table_context: 1 }
}

/// What decode rows add to a step with prompt chunks.
fn fit_mixed(times: &StepTimes, kinds: &Kinds<'_>) -> Option<MixedTime> {
    let rest = |step: &MeasuredStep| {
        let prompts = StepWork { chunks: step.work.chunks.clone(), ..StepWork::default() };
        let context = times.decode_ms.per_context_token * step.work.context_tokens as f64;
        step.ms - times.ms(&prompts) - context
    };
    let row = |step: &MeasuredStep| {
        let sequences = f64::from(step.work.sequences);
        Equation { row: vec![1.0, sequences], value: rest(step), scale: step.ms }
    };
    let steps: Vec<_> = kinds.fitted(&kinds.mixed).map(row).collect();
    if steps.is_empty() {
        return None;
    }
    let [base, per_sequence] = terms(&solve(steps.into_iter()).terms);
    Some(MixedTime { base, per_sequence })
}

fn terms<const N: usize>(found: &[f64]) -> [f64; N] {
    std::array::from_fn(|i| found.get(i).copied().unwrap_or(0.0))
}

fn indicators(knots: &[u32], size: u32) -> Vec<f64> {
    knots.iter().map(|knot| if *knot == size { 1.0 } else { 0.0 }).collect()
}

fn valid(steps: &[MeasuredStep]) -> Valid {
    let mut valid = Valid { chunk_tokens: 0, cached_tokens: 0, sequences: 0, context_tokens: 0 };
    for work in steps.iter().map(|step| &step.work) {
        for &(n, p) in &work.chunks {
            valid.chunk_tokens = valid.chunk_tokens.max(n);
            valid.cached_tokens = valid.cached_tokens.max(p);
        }
        valid.sequences = valid.sequences.max(work.sequences);
        let mean = work.context_tokens / u64::from(work.sequences.max(1));
        valid.context_tokens = valid.context_tokens.max(u32::try_from(mean).unwrap_or(u32::MAX));
    }
    valid
}

#[cfg(test)]
mod tests;
