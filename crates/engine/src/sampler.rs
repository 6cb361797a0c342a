//! Chooses the next token from one row of logits.
//!
//! A pure function of the row, the parameters, the tokens so far and the position: the draw uses one
//! uniform number keyed by (seed, position), so a token does not depend on who samples it, in what batch
//! or after what detour. Steps, all in f32 and in this order: penalties (repetition as in CTRL, Keskar et
//! al. 2019; presence and frequency as in the OpenAI API), temperature, top-k, top-p (Holtzman et al. 2019),
//! min-p (Nguyen et al. 2024), inverse-CDF draw.

use estafette_model::ReferenceBackend;
use estafette_types::{SamplingParams, TokenId, TokenLogprob, TopLogprob, unit_f32};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// `exp` over a row in a fixed order of summation, as a backend supplies it.
pub trait RowMath {
    /// `Σ exp(x - max)`; each term also goes to `out`, which has the row's length.
    fn exp_sum(&self, row: &[f32], max: f32, out: Option<&mut [f32]>) -> f32;
    /// Natural logarithm.
    fn ln(&self, x: f32) -> f32;
}

impl RowMath for ReferenceBackend {
    fn exp_sum(&self, row: &[f32], max: f32, mut out: Option<&mut [f32]>) -> f32 {
        let mut sum = 0.0;
        for (i, x) in row.iter().enumerate() {
            let term = (x - max).exp();
            sum += f64::from(term);
            if let Some(out) = &mut out {
                out[i] = term;
            }
        }
        sum as f32
    }

    fn ln(&self, x: f32) -> f32 {
        x.ln()
    }
}

/// What the sampler may know about the sequence.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Every token so far, prompt first.
    pub tokens: &'a [TokenId],
    /// How many of them are the prompt.
    pub prompt_len: usize,
}

/// The choice at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Present when the parameters ask for log-probabilities.
    pub logprob: Option<TokenLogprob>,
}

/// Chooses the token that follows `history`. `logits` is used as scratch memory.
pub fn sample(
    logits: &mut [f32],
    params: &SamplingParams,
    history: History<'_>,
    math: &dyn RowMath,
) -> Sampled {
    let lens = params.logprobs.map(|n| LogprobLens::new(logits, usize::from(n), math));
    let unmodified = lens.as_ref().map(|_| logits.to_vec());
    penalise(logits, params, history);
    let token = if params.temperature == 0.0 {
        argmax(logits)
    } else {
        draw(logits, params, history.tokens.len() as u64, math)
    };
    let logprob = lens.zip(unmodified).map(|(lens, row)| lens.of(row[token as usize]));
    Sampled { token, logprob }
}

/// The largest logit's token, ties to the lowest id. NaN never wins.
fn argmax(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = i;
        }
    }
    best as TokenId
}

fn maximum(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Likelier first, ties to the lowest id.
fn by_weight(a: &(f32, TokenId), b: &(f32, TokenId)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Log-probabilities of the unmodified row.
struct LogprobLens {
    log_sum: f32,
    top: Vec<TopLogprob>,
}

impl LogprobLens {
    fn new(row: &[f32], top: usize, math: &dyn RowMath) -> Self {
        let max = maximum(row);
        let log_sum = max + math.ln(math.exp_sum(row, max, None));
        let top = largest(row, top)
            .into_iter()
            .map(|(logit, token)| TopLogprob { token, logprob: logit - log_sum })
            .collect();
        Self { log_sum, top }
    }

    fn of(self, logit: f32) -> TokenLogprob {
        TokenLogprob { logprob: logit - self.log_sum, top: self.top }
    }
}

/// The `n` largest entries of `row`, largest first, ties to the lowest id.
fn largest(row: &[f32], n: usize) -> Vec<(f32, TokenId)> {
    let mut top: Vec<(f32, TokenId)> = Vec::with_capacity(n + 1);
    for (i, &logit) in row.iter().enumerate() {
        let entry = (logit, i as TokenId);
        if top.len() == n && top.last().is_none_or(|last| by_weight(&entry, last).is_ge()) {
            continue;
        }
        let place = top.partition_point(|other| by_weight(other, &entry).is_lt());
        top.insert(place, entry);
        top.truncate(n);
    }
    top
}

fn penalise(logits: &mut [f32], params: &SamplingParams, history: History<'_>) {
    if params.repetition_penalty != 1.0 {
        let mut seen = history.tokens.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                let factor = params.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / factor } else { *logit * factor };
            }
        }
    }
    if params.presence_penalty == 0.0 && params.frequency_penalty == 0.0 {
        return;
    }
    let mut counts: BTreeMap<TokenId, u32> = BTreeMap::new();
    for &token in &history.tokens[history.prompt_len..] {
        *counts.entry(token).or_default() += 1;
    }
    for (token, count) in counts {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit -= params.presence_penalty + params.frequency_penalty * count as f32;
        }
    }
}

fn draw(logits: &mut [f32], params: &SamplingParams, position: u64, math: &dyn RowMath) -> TokenId {
    for logit in logits.iter_mut() {
        *logit /= params.temperature;
    }
    let max = maximum(logits);
    if !max.is_finite() {
        return argmax(logits);
    }
    let mut weights = vec![0.0; logits.len()];
    let total = math.exp_sum(logits, max, Some(&mut weights));
    let noise = unit_f32(params.seed, position);
    let filtered = params.top_k > 0 || params.top_p < 1.0 || params.min_p > 0.0;
    if filtered {
        let kept = keep(&weights, total, params);
        let total = kept.iter().map(|(weight, _)| weight).sum::<f32>();
        pick(kept.into_iter(), total * noise)
    } else {
        let all = weights.into_iter().zip(0..).filter(|(weight, _)| *weight > 0.0);
        pick(all, total * noise)
    }
}

/// The first token at which the running sum passes `target`; the last one if rounding keeps the sum below.
fn pick(entries: impl Iterator<Item = (f32, TokenId)>, target: f32) -> TokenId {
    let mut sum = 0.0;
    let mut last = 0;
    for (weight, token) in entries {
        sum += weight;
        last = token;
        if sum > target {
            break;
        }
    }
    last
}

/// The tokens that survive top-k, top-p and min-p, likeliest first. `weights` are relative to the
/// likeliest token, whose weight is 1.
fn keep(weights: &[f32], total: f32, params: &SamplingParams) -> Vec<(f32, TokenId)> {
    let mut kept = if params.top_k > 0 {
        top_k(weights, params.top_k as usize)
    } else {
        // All tokens below this line together weigh less than the mass that top-p leaves out, so the
        // line cuts nothing that top-p keeps; it only makes the list to sort short.
        let line = (1.0 - params.top_p) * total / weights.len() as f32;
        let line = line.max(params.min_p);
        weights.iter().copied().zip(0..).filter(|(weight, _)| *weight >= line).collect()
    };
    kept.sort_unstable_by(by_weight);
    if params.top_p < 1.0 {
        let mass = if params.top_k > 0 { kept.iter().map(|(w, _)| w).sum() } else { total };
        let mut sum = 0.0;
        let enough = kept.iter().position(|(weight, _)| {
            sum += weight;
            sum >= params.top_p * mass
        });
        kept.truncate(enough.map_or(kept.len(), |i| i + 1));
    }
    let first = kept.first().map_or(0.0, |(weight, _)| *weight);
    kept.retain(|(weight, _)| *weight >= params.min_p * first);
    kept
}

fn top_k(weights: &[f32], k: usize) -> Vec<(f32, TokenId)> {
    let mut all: Vec<(f32, TokenId)> = weights.iter().copied().zip(0..).collect();
    if k < all.len() {
        all.select_nth_unstable_by(k - 1, by_weight);
        all.truncate(k);
    }
    all
}

#[cfg(test)]
mod tests;
