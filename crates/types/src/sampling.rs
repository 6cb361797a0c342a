//! What a client may ask of the sampler, and what comes back for each token.

use crate::TokenId;
use thiserror::Error;

/// How the next token is chosen from the logits of one row. All steps run in f32, in this order:
/// repetition, presence and frequency penalties; temperature; top-k; top-p; min-p; draw.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 means greedy: the largest logit, ties to the lowest id.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this times the most likely; 0 drops none.
    pub min_p: f32,
    /// Divide (positive) or multiply (negative) the logits of tokens seen in prompt or answer; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token already in the answer.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token once for each time it is in the answer.
    pub frequency_penalty: f32,
    /// The noise of a token depends on this and its position alone. The router draws one if the client
    /// gives none.
    pub seed: u64,
    /// `None`: no log-probabilities. `Some(n)`: the chosen token's, and the n most likely tokens'.
    pub logprobs: Option<u8>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logprobs: None,
        }
    }
}

/// Why [`SamplingParams::validate`] refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("`{field}` must be {expected}, not {value}")]
pub struct InvalidSampling {
    /// The field's name in the API.
    pub field: &'static str,
    /// The allowed values, as text.
    pub expected: &'static str,
    /// What was given.
    pub value: f32,
}

/// The most log-probabilities a client may ask for at each position (OpenAI's limit).
const TOP_LOGPROBS_MAX: u8 = 20;

impl SamplingParams {
    /// Greedy decoding.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSampling> {
        let check = |field, value: f32, ok: bool, expected| {
            if ok && value.is_finite() {
                Ok(())
            } else {
                Err(InvalidSampling { field, expected, value })
            }
        };
        let (t, p, m) = (self.temperature, self.top_p, self.min_p);
        check("temperature", t, (0.0..=2.0).contains(&t), "between 0 and 2")?;
        check("top_p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1")?;
        check("min_p", m, (0.0..=1.0).contains(&m), "between 0 and 1")?;
        let r = self.repetition_penalty;
        check("repetition_penalty", r, r > 0.0 && r <= 10.0, "above 0 and at most 10")?;
        for (field, value) in [
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ] {
            check(field, value, (-2.0..=2.0).contains(&value), "between -2 and 2")?;
        }
        let n = self.logprobs.unwrap_or(0);
        check("top_logprobs", f32::from(n), n <= TOP_LOGPROBS_MAX, "between 0 and 20")
    }
}

/// When a sequence ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most tokens to generate; at least 1.
    pub max_tokens: u32,
    /// Sampling one of these ends the sequence; the token is counted but not shown.
    pub stop_token_ids: Vec<TokenId>,
    /// Go on after a stop token (benchmarks).
    pub ignore_eos: bool,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The client or the router gave up on it.
    Cancelled,
}

/// One of the most likely tokens at a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopLogprob {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of its probability under the unmodified logits.
    pub logprob: f32,
}

/// The log-probabilities at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Of the token that was chosen.
    pub logprob: f32,
    /// The most likely ones, most likely first, ties to the lowest id.
    pub top: Vec<TopLogprob>,
}
