//! The score of one candidate, term by term, in seconds.

use crate::candidate::Candidate;
use crate::standing::Standing;
use crate::{Filtered, Request, RoutingConfig};

/// Every term of a score. Lower is better; the score is the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Waiting for prompts that are ahead.
    pub queue: f64,
    /// Waiting for a seat in the batch, or for blocks.
    pub seat: f64,
    /// Computing this prompt's uncached tokens.
    pub prefill: f64,
    /// The part of the hand-off that prefill does not hide.
    pub hand_off: f64,
    /// Decoding the answer in the company of what is there.
    pub decode: f64,
    /// What sequences that decode there lose: steps with this prompt in them are longer, and so are all later ones.
    /// Weighted by [`RoutingConfig::interference_weight`].
    pub interference: f64,
    /// What requests behind this one lose while its prompt is computed.
    pub others: f64,
}

impl Terms {
    /// The score.
    pub fn total(&self) -> f64 {
        self.queue
            + self.seat
            + self.prefill
            + self.hand_off
            + self.decode
            + self.interference
            + self.others
    }

    /// With what the pool's backlog makes of this prompt's cost to others.
    pub(crate) fn under(self, pressure: f64) -> Self {
        Self { others: self.prefill * pressure, ..self }
    }

    /// When the first token is expected, if this candidate computes the prompt.
    pub fn first_token(&self) -> f64 {
        self.queue + self.seat + self.prefill
    }
}

/// What is the same for all candidates of a decision, so that each costs few operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scorer<'a> {
    pub(crate) request: &'a Request,
    pub(crate) config: &'a RoutingConfig,
    /// Expected length.
    answer: f64,
    prompt: f64,
    blocks: u64,
    cacheable_blocks: u32,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(request: &'a Request, config: &'a RoutingConfig) -> Self {
        Self {
            request,
            config,
            answer: f64::from(request.max_tokens.min(config.expected_answer_tokens)),
            prompt: f64::from(request.prompt_tokens),
            blocks: request.blocks(),
            cacheable_blocks: request.cacheable_blocks(),
        }
    }

    /// Why the candidate cannot take the request, if it cannot. Counts exactly as the worker's scheduler does.
    pub(crate) fn filtered(&self, candidate: &Candidate<'_>) -> Option<Filtered> {
        let standing = candidate.standing;
        if standing.draining {
            Some(Filtered::Draining)
        } else if self.blocks > standing.total_blocks {
            Some(Filtered::TooSmall)
        } else {
            standing.queue_full.then_some(Filtered::QueueFull)
        }
    }

    /// Tokens to compute there.
    pub(crate) fn uncached(&self, candidate: &Candidate<'_>) -> u32 {
        let cached = candidate.cached_blocks.min(self.cacheable_blocks);
        self.request.prompt_tokens.max(1) - cached * self.request.block_size
    }

    /// How much dearer the pool's average backlog makes a second of work.
    pub(crate) fn pressure(&self, mean_backlog: f64) -> f64 {
        1.0 + mean_backlog / self.config.backlog_seconds.max(f64::MIN_POSITIVE)
    }

    /// As the one that computes the prompt and hands it over.
    pub(crate) fn prefill(&self, candidate: &Candidate<'_>) -> Terms {
        prefill_of(candidate.standing, self.own(candidate))
    }

    /// Tokens of this prompt to compute there, and the time that takes, the steps themselves apart.
    fn own(&self, candidate: &Candidate<'_>) -> (f64, f64) {
        let uncached = f64::from(self.uncached(candidate));
        let cached = self.prompt.max(1.0) - uncached;
        let attended = uncached * (cached + 0.5 * uncached);
        (uncached, candidate.standing.prefill(uncached, attended))
    }

    /// As the one that takes the KV over and streams the answer.
    pub(crate) fn decode(&self, candidate: &Candidate<'_>) -> Terms {
        self.take_over(candidate, self.answer(candidate))
    }

    /// As the one that does it all.
    pub(crate) fn aggregated(&self, candidate: &Candidate<'_>) -> Terms {
        self.alone(candidate, self.answer(candidate))
    }

    /// Both of them, for less.
    pub(crate) fn decode_and_aggregated(&self, candidate: &Candidate<'_>) -> (Terms, Terms) {
        let answer = self.answer(candidate);
        (self.take_over(candidate, answer), self.alone(candidate, answer))
    }

    fn take_over(&self, candidate: &Candidate<'_>, answer: Terms) -> Terms {
        let held = f64::from(candidate.cached_blocks) * f64::from(self.request.block_size);
        let missing = (self.prompt - held).max(0.0);
        let config = self.config;
        let hand_off = config.hand_off_seconds + config.hand_off_seconds_per_token * missing;
        Terms { hand_off, ..answer }
    }

    fn alone(&self, candidate: &Candidate<'_>, answer: Terms) -> Terms {
        let (tokens, own) = self.own(candidate);
        let standing = candidate.standing;
        let Terms { queue, prefill, .. } = prefill_of(standing, (tokens, own));
        let delays = self.config.interference_weight * standing.decoding * own;
        Terms { queue, prefill, interference: answer.interference + delays, ..answer }
    }

    fn answer(&self, candidate: &Candidate<'_>) -> Terms {
        let standing = candidate.standing;
        let longer = standing.per_sequence + standing.per_context_token * self.prompt;
        let decode =
            self.answer * (standing.answer_step + standing.per_context_token * self.prompt);
        let interference =
            self.config.interference_weight * standing.sequences * self.answer * longer;
        Terms { seat: self.shortage(candidate) * decode, decode, interference, ..Terms::default() }
    }

    /// How many answers' time passes until there is a seat and enough blocks: both come back at the rate at which answers
    /// end.
    fn shortage(&self, candidate: &Candidate<'_>) -> f64 {
        let standing = candidate.standing;
        let held = u64::from(candidate.cached_blocks).min(self.blocks);
        let block = u64::from(self.request.block_size.max(1));
        let tokens = (self.blocks - held) * block + standing.pending_context;
        let missing = tokens.saturating_sub(standing.free_blocks * block);
        if missing == 0 {
            return standing.seats_missing;
        }
        let of_tokens = missing as f64 / (standing.total_blocks.max(1) * block) as f64;
        standing.seats_missing.max(of_tokens)
    }
}

/// Of `tokens` prompt tokens that take the time `own` besides the steps they are in.
fn prefill_of(standing: &Standing, (tokens, own): (f64, f64)) -> Terms {
    let prefill = standing.steps(tokens) + own;
    let both = standing.steps(standing.tokens_ahead + tokens) + standing.ahead + own;
    Terms { queue: (both - prefill).max(0.0), prefill, ..Terms::default() }
}

#[cfg(test)]
mod tests;
