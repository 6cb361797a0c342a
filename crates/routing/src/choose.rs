//! The decision.

use crate::cost::Scorer;
use crate::{Candidate, Filtered, Request, RoutingConfig, Terms};
use estafette_types::SplitMix64;
use thiserror::Error;

/// Who runs the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The decode worker does it all.
    Aggregated {
        /// Its slot.
        decode: u32,
    },
    /// One computes the prompt and hands it over.
    Disaggregated {
        /// The slot of the one that computes.
        prefill: u32,
        /// The slot of the one that streams.
        decode: u32,
    },
}

/// Why the request is, or is not, handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The prefill pool is the better place, or as good.
    PrefillPool,
    /// No prefill worker can take it.
    NoPrefillWorker,
    /// The decode worker holds most of the prompt.
    Cached,
    /// Prefilling on the decode worker is enough faster.
    Deflected,
}

/// What was decided, and its main figures; [`crate::explain`] gives all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Who runs the request.
    pub choice: Choice,
    /// Why in this way.
    pub reason: Reason,
    /// When the first token is expected, in seconds from now.
    pub first_token_seconds: f64,
    /// The score of the choice.
    pub seconds: f64,
    /// The score of the best choice of the other kind.
    pub alternative_seconds: Option<f64>,
    /// Tokens to compute where the prompt is computed.
    pub uncached_tokens: u32,
}

/// Why there is no choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoChoice {
    /// Nobody could run it, now or after waiting: 503.
    #[error("no decode worker can take the request")]
    NoWorker,
    /// All who could have full queues: 429.
    #[error("the queue of every decode worker is full")]
    Saturated,
}

/// Chooses the workers for `request`.
///
/// Deterministic for the state of `rng`, from which only ties are drawn.
///
/// # Errors
/// When no decode worker can take it.
pub fn choose(
    request: &Request,
    prefill: &[Candidate],
    decode: &[Candidate],
    config: &RoutingConfig,
    rng: &mut SplitMix64,
) -> Result<Decision, NoChoice> {
    let scorer = Scorer::new(request, config);
    let pools = Pools::new(&scorer, prefill, decode);
    let aggregated =
        pick(decode, &pools.aggregated, config, rng).ok_or_else(|| no_choice(request, decode))?;
    let streamer = pick(decode, &pools.decode, config, rng);
    let prefiller = pick(prefill, &pools.prefill, config, rng);
    let alone = scorer.aggregated(aggregated, pools.decode_pressure);
    let (Some(prefiller), Some(streamer)) = (prefiller, streamer) else {
        return Ok(on_one(&scorer, aggregated, &alone, Reason::NoPrefillWorker, None));
    };
    let first = scorer.prefill(prefiller, pools.prefill_pressure);
    let pair = first.total() + scorer.decode(streamer).total();
    if let Some(reason) = deflection(&scorer, aggregated, &alone, &first, pair) {
        return Ok(on_one(&scorer, aggregated, &alone, reason, Some(pair)));
    }
    Ok(Decision {
        choice: Choice::Disaggregated { prefill: prefiller.slot, decode: streamer.slot },
        reason: Reason::PrefillPool,
        first_token_seconds: first.first_token(),
        seconds: pair,
        alternative_seconds: Some(alone.total()),
        uncached_tokens: request.uncached_tokens(prefiller.cached_blocks),
    })
}

fn on_one(
    scorer: &Scorer<'_>,
    worker: &Candidate,
    terms: &Terms,
    reason: Reason,
    alternative_seconds: Option<f64>,
) -> Decision {
    Decision {
        choice: Choice::Aggregated { decode: worker.slot },
        reason,
        first_token_seconds: terms.first_token(),
        seconds: terms.total(),
        alternative_seconds,
        uncached_tokens: scorer.request.uncached_tokens(worker.cached_blocks),
    }
}

/// Why `worker` should do it all although the pair costs `pair`, if it should.
fn deflection(
    scorer: &Scorer<'_>,
    worker: &Candidate,
    alone: &Terms,
    first: &Terms,
    pair: f64,
) -> Option<Reason> {
    let (request, config) = (scorer.request, scorer.config);
    let uncached = request.uncached_tokens(worker.cached_blocks);
    let appends = uncached <= config.append_tokens && uncached <= request.prompt_tokens / 2;
    if appends {
        return (alone.total() < pair).then_some(Reason::Cached);
    }
    let margin =
        config.deflection_margin_seconds + config.deflection_margin_ratio * first.first_token();
    (alone.total() + margin < pair).then_some(Reason::Deflected)
}

/// The scores of all candidates; infinite for those that cannot take the request.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) prefill_pressure: f64,
    pub(crate) decode_pressure: f64,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    aggregated: Vec<f64>,
}

impl Pools {
    pub(crate) fn new(scorer: &Scorer<'_>, prefill: &[Candidate], decode: &[Candidate]) -> Self {
        let prefill_pressure = pressure(scorer, prefill);
        let decode_pressure = pressure(scorer, decode);
        let score = |pool: &[Candidate], terms: &dyn Fn(&Candidate) -> Terms| -> Vec<f64> {
            pool.iter()
                .map(|candidate| match candidate.filtered(scorer.request) {
                    None => terms(candidate).total(),
                    Some(_) => f64::INFINITY,
                })
                .collect()
        };
        Self {
            prefill: score(prefill, &|c| scorer.prefill(c, prefill_pressure)),
            decode: score(decode, &|c| scorer.decode(c)),
            aggregated: score(decode, &|c| scorer.aggregated(c, decode_pressure)),
            prefill_pressure,
            decode_pressure,
        }
    }
}

fn no_choice(request: &Request, decode: &[Candidate]) -> NoChoice {
    let full = |c: &Candidate| c.filtered(request) == Some(Filtered::QueueFull);
    if decode.iter().any(full) { NoChoice::Saturated } else { NoChoice::NoWorker }
}

/// What the average backlog of those who can be chosen makes of a second of work.
fn pressure(scorer: &Scorer<'_>, pool: &[Candidate]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0f64);
    for candidate in pool.iter().filter(|c| c.filtered(scorer.request).is_none()) {
        sum += scorer.backlog(candidate);
        count += 1.0;
    }
    scorer.pressure(sum / count.max(1.0))
}

/// One of the best, at random among equals.
fn pick<'a>(
    pool: &'a [Candidate],
    scores: &[f64],
    config: &RoutingConfig,
    rng: &mut SplitMix64,
) -> Option<&'a Candidate> {
    let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
    if !best.is_finite() {
        return None;
    }
    let limit = best + config.tie_seconds + config.tie_ratio * best;
    let ties = scores.iter().filter(|score| **score <= limit).count() as u64;
    let drawn = usize::try_from(rng.below(ties)).unwrap_or(0);
    pool.iter().zip(scores).filter(|(_, score)| **score <= limit).nth(drawn).map(|(c, _)| c)
}

#[cfg(test)]
mod tests;
