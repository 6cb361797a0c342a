//! The decision.

use crate::candidate::Candidate;
use crate::cost::Scorer;
use crate::{Filtered, Request, RoutingConfig, Terms};
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

impl Reason {
    /// The word on the wire and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrefillPool => "prefill_pool",
            Self::NoPrefillWorker => "no_prefill_worker",
            Self::Cached => "cached",
            Self::Deflected => "deflected",
        }
    }
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

impl NoChoice {
    /// The word on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoWorker => "no_worker",
            Self::Saturated => "saturated",
        }
    }
}

/// Chooses the workers for `request`.
///
/// Deterministic for the state of `rng`, from which only ties are drawn.
///
/// # Errors
/// When no decode worker can take it.
pub(crate) fn choose(
    request: &Request,
    prefill: &[Candidate<'_>],
    decode: &[Candidate<'_>],
    config: &RoutingConfig,
    rng: &mut SplitMix64,
) -> Result<Decision, NoChoice> {
    let scorer = Scorer::new(request, config);
    let decode_scores = DecodeScores::new(&scorer, decode);
    let (aggregated_scores, decode_pressure) = decode_scores.aggregated.finish(&scorer);
    let aggregated = pick(request, decode, &aggregated_scores, config, rng)
        .ok_or_else(|| no_choice(&scorer, decode))?;
    let streamer = pick(request, decode, &decode_scores.decode, config, rng);
    let (prefill_scores, prefill_pressure) = Scores::prefill(&scorer, prefill).finish(&scorer);
    let prefiller = pick(request, prefill, &prefill_scores, config, rng);
    let alone = scorer.aggregated(aggregated).under(decode_pressure);
    let (Some(prefiller), Some(streamer)) = (prefiller, streamer) else {
        return Ok(on_one(&scorer, aggregated, &alone, Reason::NoPrefillWorker, None));
    };
    let first = scorer.prefill(prefiller).under(prefill_pressure);
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
    worker: &Candidate<'_>,
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
    worker: &Candidate<'_>,
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

/// The scores of a pool's candidates for computing the prompt, before the cost to others is known: that takes the pool's
/// average. Infinite for those that cannot take the request.
#[derive(Debug)]
pub(crate) struct Scores {
    totals: Vec<f64>,
    prefill: Vec<f64>,
    backlog: f64,
    count: f64,
}

impl Scores {
    fn with_capacity(candidates: usize) -> Self {
        let new = || Vec::with_capacity(candidates);
        Self { totals: new(), prefill: new(), backlog: 0.0, count: 0.0 }
    }

    pub(crate) fn prefill(scorer: &Scorer<'_>, pool: &[Candidate<'_>]) -> Self {
        let mut scores = Self::with_capacity(pool.len());
        for candidate in pool {
            if scorer.filtered(candidate).is_some() {
                scores.leave_out();
            } else {
                scores.push(&scorer.prefill(candidate), candidate.standing.backlog);
            }
        }
        scores
    }

    fn push(&mut self, terms: &Terms, backlog: f64) {
        self.totals.push(terms.total());
        self.prefill.push(terms.prefill);
        self.backlog += backlog;
        self.count += 1.0;
    }

    fn leave_out(&mut self) {
        self.totals.push(f64::INFINITY);
        self.prefill.push(0.0);
    }

    /// What the average backlog of those who can be chosen makes of a second of work.
    pub(crate) fn pressure(&self, scorer: &Scorer<'_>) -> f64 {
        scorer.pressure(self.backlog / self.count.max(1.0))
    }

    /// With the cost to others; and the pressure.
    fn finish(mut self, scorer: &Scorer<'_>) -> (Vec<f64>, f64) {
        let pressure = self.pressure(scorer);
        for (total, prefill) in self.totals.iter_mut().zip(&self.prefill) {
            *total += prefill * pressure;
        }
        (self.totals, pressure)
    }
}

/// The scores of the decode pool in both of its parts.
#[derive(Debug)]
pub(crate) struct DecodeScores {
    pub(crate) aggregated: Scores,
    decode: Vec<f64>,
}

impl DecodeScores {
    pub(crate) fn new(scorer: &Scorer<'_>, pool: &[Candidate<'_>]) -> Self {
        let mut aggregated = Scores::with_capacity(pool.len());
        let mut decode = Vec::with_capacity(pool.len());
        for candidate in pool {
            if scorer.filtered(candidate).is_some() {
                aggregated.leave_out();
                decode.push(f64::INFINITY);
            } else {
                let (taking_over, alone) = scorer.decode_and_aggregated(candidate);
                aggregated.push(&alone, candidate.standing.backlog);
                decode.push(taking_over.total());
            }
        }
        Self { aggregated, decode }
    }
}

fn no_choice(scorer: &Scorer<'_>, decode: &[Candidate<'_>]) -> NoChoice {
    let full = |c: &Candidate<'_>| scorer.filtered(c) == Some(Filtered::QueueFull);
    if decode.iter().any(full) { NoChoice::Saturated } else { NoChoice::NoWorker }
}

/// The session's own worker if it is about as good as the best, else one of the best, at random among equals.
fn pick<'a>(
    request: &Request,
    pool: &'a [Candidate<'a>],
    scores: &[f64],
    config: &RoutingConfig,
    rng: &mut SplitMix64,
) -> Option<&'a Candidate<'a>> {
    let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
    if !best.is_finite() {
        return None;
    }
    if request.session.is_some() {
        let limit = best + config.affinity_seconds + config.affinity_ratio * best;
        let able = pool.iter().zip(scores).filter(|(_, score)| score.is_finite());
        let own = able.max_by_key(|(candidate, _)| candidate.affinity);
        if let Some((own, _)) = own.filter(|(_, score)| **score <= limit) {
            return Some(own);
        }
    }
    let limit = best + config.tie_seconds + config.tie_ratio * best;
    let ties = scores.iter().filter(|score| **score <= limit).count() as u64;
    let drawn = usize::try_from(rng.below(ties)).unwrap_or(0);
    pool.iter().zip(scores).filter(|(_, score)| **score <= limit).nth(drawn).map(|(c, _)| c)
}

#[cfg(test)]
mod tests;
