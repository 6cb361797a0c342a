//! Chooses the next token from one row of logits.
//!
//! A pure function of the row, the parameters, the tokens so far and the position: the draw uses one
//! uniform number keyed by (seed, position), so a token does not depend on who samples it, in what batch
//! or after what detour. Steps, in this order: penalties (repetition as in CTRL, Keskar et al. 2019;
//! presence and frequency as in the OpenAI API), temperature, top-k, top-p (Holtzman et al. 2019), min-p
//! (Nguyen et al. 2024), inverse-CDF draw. Logits and weights are f32, running sums f64.

use estafette_model::ReferenceBackend;
use estafette_types::{SamplingParams, TokenId, TokenLogprob, TopLogprob, unit_f32};
use std::cmp::Ordering;

/// Changes whenever another token may be chosen from the same row: part of the numerics id.
pub(crate) const VERSION: &str = "sampler-v1";

/// `exp` over a row in a fixed order of summation, as a backend supplies it.
pub trait RowMath {
    /// `Σ exp((x - max) / divisor)`, NaN as 0; each term also goes to `out`, which has the row's length.
    fn exp_sum(&self, row: &[f32], max: f32, divisor: f32, out: Option<&mut [f32]>) -> f32;
    /// Natural logarithm.
    fn ln(&self, x: f32) -> f32;
}

impl RowMath for ReferenceBackend {
    fn exp_sum(&self, row: &[f32], max: f32, divisor: f32, mut out: Option<&mut [f32]>) -> f32 {
        let mut sum = 0.0;
        for (i, x) in row.iter().enumerate() {
            let term = ((x - max) / divisor).exp();
            let term = if term.is_nan() { 0.0 } else { term };
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

/// Memory that is used again for each row.
#[derive(Debug, Default)]
pub struct Scratch {
    penalised: Vec<f32>,
    weights: Vec<f32>,
    /// One a token of the vocabulary, all zero between two uses.
    counts: Vec<u32>,
}

/// Chooses the token that follows `history`.
pub fn sample(
    logits: &[f32],
    params: &SamplingParams,
    history: History<'_>,
    math: &dyn RowMath,
    scratch: &mut Scratch,
) -> Sampled {
    let Scratch { penalised, weights, counts } = scratch;
    let row = if penalises(params) {
        penalised.clear();
        penalised.extend_from_slice(logits);
        penalise(penalised, counts, params, history);
        penalised
    } else {
        logits
    };
    let max = maximum(row);
    let token = if params.temperature == 0.0 || !max.is_finite() {
        row.iter().position(|x| *x == max).unwrap_or(0) as TokenId
    } else {
        weights.resize(row.len(), 0.0);
        let total = math.exp_sum(row, max, params.temperature, Some(weights));
        draw(weights, total, params, history.tokens.len() as u64)
    };
    let logprob = params.logprobs.map(|n| logprob(logits, token, usize::from(n), math));
    Sampled { token, logprob }
}

/// The largest number; −∞ when there is none. Sixteen at a time, because one at a time is slow.
fn maximum(row: &[f32]) -> f32 {
    // False for NaN.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder().iter().copied();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    lanes.into_iter().chain(rest).fold(f32::NEG_INFINITY, larger)
}

/// Likelier first, ties to the lowest id.
fn by_weight(a: &(f32, TokenId), b: &(f32, TokenId)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Log-probabilities of the unmodified row: the token's and those of the `top` likeliest.
fn logprob(row: &[f32], token: TokenId, top: usize, math: &dyn RowMath) -> TokenLogprob {
    let max = maximum(row);
    let log_sum = max + math.ln(math.exp_sum(row, max, 1.0, None));
    let top = largest(row, top)
        .into_iter()
        .map(|(logit, token)| TopLogprob { token, logprob: logit - log_sum })
        .collect();
    TokenLogprob { logprob: row[token as usize] - log_sum, top }
}

/// Lists up to this length are kept sorted by insertion.
const SHORT: usize = 128;

/// The `n` largest entries of `row`, largest first, ties to the lowest id.
fn largest(row: &[f32], n: usize) -> Vec<(f32, TokenId)> {
    let mut top: Vec<(f32, TokenId)> = Vec::with_capacity(n + 1);
    let mut enters = f32::NEG_INFINITY;
    for (&logit, id) in row.iter().zip(0..) {
        let full = top.len() == n;
        // An equal one has the higher id; NaN is never larger.
        if (full && logit <= enters) || logit.is_nan() {
            continue;
        }
        let entry = (logit, id);
        let place = top.partition_point(|other| by_weight(other, &entry).is_lt());
        top.insert(place, entry);
        top.truncate(n);
        enters = top.last().map_or(f32::INFINITY, |last| last.0);
    }
    top
}

fn penalises(params: &SamplingParams) -> bool {
    params.repetition_penalty != 1.0
        || params.presence_penalty != 0.0
        || params.frequency_penalty != 0.0
}

fn penalise(
    logits: &mut [f32],
    counts: &mut Vec<u32>,
    params: &SamplingParams,
    history: History<'_>,
) {
    counts.resize(logits.len(), 0);
    if params.repetition_penalty != 1.0 {
        for_each_once(history.tokens, counts, |token, _| {
            let (logit, factor) = (&mut logits[token], params.repetition_penalty);
            *logit = if *logit > 0.0 { *logit / factor } else { *logit * factor };
        });
    }
    let answer = history.tokens.get(history.prompt_len..).unwrap_or_default();
    for_each_once(answer, counts, |token, count| {
        logits[token] -= params.presence_penalty + params.frequency_penalty * count as f32;
    });
}

/// Calls `f` once for each different token, with its count. `counts` is zero before and after.
fn for_each_once(tokens: &[TokenId], counts: &mut [u32], mut f: impl FnMut(usize, u32)) {
    for token in tokens {
        if let Some(count) = counts.get_mut(*token as usize) {
            *count += 1;
        }
    }
    for token in tokens {
        if let Some(count) = counts.get_mut(*token as usize).filter(|count| **count > 0) {
            f(*token as usize, *count);
            *count = 0;
        }
    }
}

/// Draws from tokens of these weights, `total` together; the likeliest one's weight is 1.
fn draw(weights: &[f32], total: f32, params: &SamplingParams, position: u64) -> TokenId {
    let noise = f64::from(unit_f32(params.seed, position));
    if params.top_k > 0 || params.top_p < 1.0 || params.min_p > 0.0 {
        let kept = keep(weights, total, params);
        pick(kept.iter().copied(), noise)
    } else {
        pick(weights.iter().copied().zip(0..), noise)
    }
}

/// The token at which the running sum passes the share `noise` (below 1) of the whole.
fn pick(entries: impl Iterator<Item = (f32, TokenId)> + Clone, noise: f64) -> TokenId {
    let total: f64 = entries.clone().map(|(weight, _)| f64::from(weight)).sum();
    let mut sum = 0.0;
    for (weight, token) in entries {
        sum += f64::from(weight);
        if sum > total * noise {
            return token;
        }
    }
    // Not reached: the last sum is the total, and the total is above its share.
    0
}

/// The tokens that survive top-k, top-p and min-p.
fn keep(weights: &[f32], total: f32, params: &SamplingParams) -> Vec<(f32, TokenId)> {
    let mut kept = if params.top_k > 0 {
        likeliest(weights, params.top_k as usize)
    } else {
        // All tokens below this line together weigh less than the mass that top-p leaves out, so the line
        // cuts nothing that top-p keeps; it only makes the list to sort short.
        let line = (1.0 - params.top_p) * total / weights.len() as f32;
        let line = line.max(params.min_p);
        weights.iter().copied().zip(0..).filter(|(weight, _)| *weight >= line).collect()
    };
    if params.top_p < 1.0 {
        let whole = kept.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let mass = if params.top_k > 0 { whole } else { f64::from(total) };
        keep_mass(&mut kept, f64::from(params.top_p) * mass);
    }
    kept.retain(|(weight, _)| *weight >= params.min_p);
    kept
}

/// The `k` likeliest, likeliest first.
fn likeliest(weights: &[f32], k: usize) -> Vec<(f32, TokenId)> {
    if k <= SHORT {
        return largest(weights, k);
    }
    let mut all: Vec<_> = weights.iter().copied().zip(0..).collect();
    sort_first(&mut all, k);
    all.truncate(k);
    all
}

/// Sorts the `n` likeliest to the front.
fn sort_first(entries: &mut [(f32, TokenId)], n: usize) {
    if n < entries.len() {
        entries.select_nth_unstable_by(n, by_weight);
    }
    let n = n.min(entries.len());
    entries[..n].sort_unstable_by(by_weight);
}

/// Keeps the likeliest entries whose weights reach `mass`. Few of many are the rule: they are sorted in
/// portions that grow.
fn keep_mass(entries: &mut Vec<(f32, TokenId)>, mass: f64) {
    let (mut sum, mut sorted, mut portion) = (0.0, 0, 64);
    while sorted < entries.len() {
        sort_first(&mut entries[sorted..], portion);
        let end = entries.len().min(sorted + portion);
        for i in sorted..end {
            sum += f64::from(entries[i].0);
            if sum >= mass {
                return entries.truncate(i + 1);
            }
        }
        sorted = end;
        portion *= 8;
    }
}

#[cfg(test)]
mod tests;
