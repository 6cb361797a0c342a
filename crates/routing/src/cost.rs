//! The score of one candidate, term by term, in seconds.

use crate::{Candidate, Request, RoutingConfig};

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

    /// When the first token is expected, if this candidate computes the prompt.
    pub fn first_token(&self) -> f64 {
        self.queue + self.seat + self.prefill
    }
}

/// What is the same for all candidates of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scorer<'a> {
    pub(crate) request: &'a Request,
    pub(crate) config: &'a RoutingConfig,
    answer: f64,
    chunk: f64,
    prompt: f64,
    blocks: u64,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(request: &'a Request, config: &'a RoutingConfig) -> Self {
        Self {
            request,
            config,
            answer: f64::from(request.max_tokens.min(config.expected_answer_tokens)),
            chunk: f64::from(config.chunk_tokens.max(1)),
            prompt: f64::from(request.prompt_tokens),
            blocks: request.blocks(),
        }
    }

    /// Time until the prompt tokens that are ahead are computed.
    pub(crate) fn backlog(&self, candidate: &Candidate) -> f64 {
        self.compute(candidate, candidate.prefill_tokens_ahead() as f64)
    }

    /// How much dearer the pool's average backlog makes a second of work.
    pub(crate) fn pressure(&self, mean_backlog: f64) -> f64 {
        1.0 + mean_backlog / self.config.backlog_seconds.max(f64::MIN_POSITIVE)
    }

    /// As the one that computes the prompt and hands it over.
    pub(crate) fn prefill(&self, candidate: &Candidate, pressure: f64) -> Terms {
        let uncached = f64::from(self.request.uncached_tokens(candidate.cached_blocks));
        let prefill = self.compute(candidate, uncached);
        let ahead = candidate.prefill_tokens_ahead() as f64;
        let queue = self.compute(candidate, ahead + uncached) - prefill;
        Terms { queue, prefill, others: prefill * pressure, ..Terms::default() }
    }

    /// As the one that takes the KV over and streams the answer.
    pub(crate) fn decode(&self, candidate: &Candidate) -> Terms {
        let held = f64::from(candidate.cached_blocks) * f64::from(self.request.block_size);
        let missing = (self.prompt - held).max(0.0);
        Terms {
            hand_off: self.config.hand_off_seconds
                + self.config.hand_off_seconds_per_token * missing,
            ..self.answer(candidate)
        }
    }

    /// As the one that does it all.
    pub(crate) fn aggregated(&self, candidate: &Candidate, pressure: f64) -> Terms {
        let own = self.prefill(candidate, pressure);
        let answer = self.answer(candidate);
        let slowed = candidate.load.decoding_sequences as f64;
        let uncached = f64::from(self.request.uncached_tokens(candidate.cached_blocks));
        let delay = slowed * uncached * candidate.step.per_prefill_token;
        Terms {
            queue: own.queue,
            prefill: own.prefill,
            others: own.others,
            interference: answer.interference + delay,
            ..answer
        }
    }

    /// Time for `tokens` prompt tokens, with the sequences that decode there in every step.
    fn compute(&self, candidate: &Candidate, tokens: f64) -> f64 {
        let (load, step) = (&candidate.load, &candidate.step);
        let decode = step.decode_step(load.decoding_sequences as f64, load.decoding_tokens as f64);
        (tokens / self.chunk).ceil() * decode + tokens * step.per_prefill_token
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
            interference: sequences * self.answer * longer,
            ..Terms::default()
        }
    }

    /// How many answers' time passes until there is a seat and enough blocks: both come back at the rate at which answers
    /// end.
    fn shortage(&self, candidate: &Candidate) -> f64 {
        let seats = f64::from(candidate.max_num_seqs.max(1));
        let seats_missing = (candidate.sequences() as f64 + 1.0 - seats).max(0.0) / seats;
        let block_size = u64::from(self.request.block_size.max(1));
        let held = u64::from(candidate.cached_blocks).min(self.blocks);
        let wanted = self.blocks - held + candidate.pending.context_tokens / block_size;
        let total = candidate.load.total_blocks.max(1) as f64;
        let blocks_missing = wanted.saturating_sub(candidate.load.free_blocks) as f64 / total;
        seats_missing.max(blocks_missing)
    }
}

#[cfg(test)]
mod tests;
