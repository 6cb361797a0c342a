//! The score of one candidate, term by term, in seconds.

use crate::{Candidate, Filtered, Request, RoutingConfig};

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

    /// Why the candidate cannot take the request, if it cannot.
    pub(crate) fn filtered(&self, candidate: &Candidate) -> Option<Filtered> {
        candidate.filtered_for(self.blocks)
    }

    /// Tokens to compute there.
    pub(crate) fn uncached(&self, candidate: &Candidate) -> u32 {
        let cached = candidate.cached_blocks.min(self.cacheable_blocks);
        self.request.prompt_tokens.max(1) - cached * self.request.block_size
    }

    /// Time until the prompt tokens that are ahead are computed.
    pub(crate) fn backlog(&self, candidate: &Candidate) -> f64 {
        let (tokens, attended) = ahead(candidate);
        self.compute(candidate, tokens, attended)
    }

    /// How much dearer the pool's average backlog makes a second of work.
    pub(crate) fn pressure(&self, mean_backlog: f64) -> f64 {
        1.0 + mean_backlog / self.config.backlog_seconds.max(f64::MIN_POSITIVE)
    }

    /// As the one that computes the prompt and hands it over.
    pub(crate) fn prefill(&self, candidate: &Candidate) -> Terms {
        self.prefill_of(candidate, self.own(candidate))
    }

    fn prefill_of(&self, candidate: &Candidate, (tokens, attended): (f64, f64)) -> Terms {
        let (tokens_ahead, attended_ahead) = ahead(candidate);
        let prefill = self.compute(candidate, tokens, attended);
        let both = self.compute(candidate, tokens_ahead + tokens, attended_ahead + attended);
        Terms { queue: (both - prefill).max(0.0), prefill, ..Terms::default() }
    }

    /// Tokens of this prompt to compute there, and the KV tokens that their rows attend to.
    fn own(&self, candidate: &Candidate) -> (f64, f64) {
        let uncached = f64::from(self.uncached(candidate));
        let cached = self.prompt.max(1.0) - uncached;
        (uncached, uncached * (cached + 0.5 * uncached))
    }

    /// As the one that takes the KV over and streams the answer.
    pub(crate) fn decode(&self, candidate: &Candidate) -> Terms {
        self.take_over(candidate, self.answer(candidate))
    }

    /// As the one that does it all.
    pub(crate) fn aggregated(&self, candidate: &Candidate) -> Terms {
        self.alone(candidate, self.answer(candidate))
    }

    /// Both of them, for less.
    pub(crate) fn decode_and_aggregated(&self, candidate: &Candidate) -> (Terms, Terms) {
        let answer = self.answer(candidate);
        (self.take_over(candidate, answer), self.alone(candidate, answer))
    }

    fn take_over(&self, candidate: &Candidate, answer: Terms) -> Terms {
        let held = f64::from(candidate.cached_blocks) * f64::from(self.request.block_size);
        let missing = (self.prompt - held).max(0.0);
        let config = self.config;
        let hand_off = config.hand_off_seconds + config.hand_off_seconds_per_token * missing;
        Terms { hand_off, ..answer }
    }

    fn alone(&self, candidate: &Candidate, answer: Terms) -> Terms {
        let (tokens, attended) = self.own(candidate);
        let Terms { queue, prefill, .. } = self.prefill_of(candidate, (tokens, attended));
        let slowed = candidate.load.decoding_sequences as f64;
        let delay = self.config.interference_weight * candidate.step.prefill(tokens, attended);
        Terms { queue, prefill, interference: answer.interference + slowed * delay, ..answer }
    }

    /// Time for `tokens` prompt tokens whose rows attend to `attended` ones, with the sequences that decode there in every step.
    fn compute(&self, candidate: &Candidate, tokens: f64, attended: f64) -> f64 {
        let (load, step) = (&candidate.load, &candidate.step);
        let decode = step.decode_step(load.decoding_sequences as f64, load.decoding_tokens as f64);
        // Rounded up by hand: without SSE 4.1, which is not in the x86-64 baseline, `ceil` is a call.
        let steps = tokens * candidate.steps_per_token;
        let whole = f64::from(steps as u32);
        let steps = whole + f64::from(u8::from(whole < steps));
        steps * decode + step.prefill(tokens, attended)
    }

    fn answer(&self, candidate: &Candidate) -> Terms {
        let step = &candidate.step;
        let sequences = candidate.sequences() as f64;
        let context = (candidate.load.decoding_tokens + candidate.pending.context_tokens) as f64;
        let decode = self.answer * step.decode_step(sequences + 1.0, context + self.prompt);
        let longer = step.per_sequence + step.per_context_token * self.prompt;
        Terms {
            seat: self.shortage(candidate) * decode,
            decode,
            interference: self.config.interference_weight * sequences * self.answer * longer,
            ..Terms::default()
        }
    }

    /// How many answers' time passes until there is a seat and enough blocks: both come back at the rate at which answers
    /// end.
    fn shortage(&self, candidate: &Candidate) -> f64 {
        let seats = u64::from(candidate.max_num_seqs.max(1));
        let seats_missing = (candidate.sequences() + 1).saturating_sub(seats);
        let held = u64::from(candidate.cached_blocks).min(self.blocks);
        let tokens = (self.blocks - held) * u64::from(self.request.block_size)
            + candidate.pending.context_tokens;
        let free_tokens = candidate.load.free_blocks * u64::from(self.request.block_size);
        let tokens_missing = tokens.saturating_sub(free_tokens);
        if seats_missing == 0 && tokens_missing == 0 {
            return 0.0;
        }
        let total = candidate.load.total_blocks.max(1) * u64::from(self.request.block_size.max(1));
        let of_seats = seats_missing as f64 / seats as f64;
        of_seats.max(tokens_missing as f64 / total as f64)
    }
}

/// Prompt tokens that are ahead there, and what their rows attend to: as much as those that it has computed did, on average.
fn ahead(candidate: &Candidate) -> (f64, f64) {
    let tokens = candidate.prefill_tokens_ahead() as f64;
    (tokens, tokens * candidate.mean_attended)
}

#[cfg(test)]
mod tests;
