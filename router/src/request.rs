//! A request for one answer, whatever protocol it came in: checked, tokenised, hashed.

use crate::cluster::Shape;
use crate::error::RequestError;
use crate::model::ServedModel;
use estafette_proto::{hashes_to_bytes, v1};
use estafette_types::{
    BlockHash, ErrorCode, FinishReason, HashSeed, Limits, RequestId, SamplingParams, SplitMix64,
    TokenId, block_hashes,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most tokens that may end an answer, and the most stop strings.
const STOPS_MAX: usize = 64;
/// Bytes of one stop string.
const STOP_BYTES_MAX: usize = 1024;

/// The prompt, shared by all answers to it.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) tokens: Arc<[TokenId]>,
    /// Of its full blocks.
    pub(crate) hashes: Arc<[BlockHash]>,
    /// Tokens of a block, by which it was hashed.
    pub(crate) block_size: u32,
    /// The parent of the first block.
    pub(crate) seed: HashSeed,
}

impl Prompt {
    /// Checks and hashes `tokens`, which the client gave in the field `param`.
    ///
    /// # Errors
    /// When there are none, one is not in the vocabulary, or they leave no room for an answer.
    pub(crate) fn new(
        tokens: Vec<TokenId>,
        param: &str,
        model: &ServedModel,
        shape: Shape,
    ) -> Result<Self, RequestError> {
        let max_model_len = shape.max_model_len;
        if tokens.is_empty() {
            return Err(RequestError::field(param, "the prompt is empty"));
        }
        let vocab = model.tokenizer.vocab_size();
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            let message = format!("token id {token} is not in the vocabulary of {vocab} tokens");
            return Err(RequestError::field(param, message));
        }
        if tokens.len() >= max_model_len as usize {
            return Err(RequestError {
                code: ErrorCode::ContextLengthExceeded,
                message: format!(
                    "the prompt has {} tokens, which leaves no room for an answer in this model's context of \
                     {max_model_len} tokens",
                    tokens.len()
                ),
                param: Some(param.into()),
            });
        }
        let hashes = block_hashes(model.seed, &tokens, shape.block_size as usize);
        Ok(Self {
            tokens: tokens.into(),
            hashes: hashes.into(),
            block_size: shape.block_size,
            seed: model.seed,
        })
    }
}

/// What a client may say about one answer besides the prompt.
#[derive(Clone, Debug)]
pub(crate) struct AnswerOptions {
    pub(crate) params: SamplingParams,
    /// `None`: as many as fit the context, at most `default_max_tokens`.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) default_max_tokens: u32,
    /// The answer ends before the first of these.
    pub(crate) stop: Vec<String>,
    pub(crate) stop_token_ids: Vec<TokenId>,
    pub(crate) ignore_eos: bool,
    pub(crate) skip_special_tokens: bool,
    /// Lower is earlier when requests have to wait; 0 is usual.
    pub(crate) priority: i32,
    /// Hash of the session's name: where possible it stays with its worker.
    pub(crate) session: Option<u64>,
}

/// A request for one answer.
#[derive(Clone, Debug)]
pub(crate) struct AnswerRequest {
    pub(crate) id: RequestId,
    pub(crate) prompt: Prompt,
    /// Tokens that the client has already, from workers that are lost.
    pub(crate) output: Vec<TokenId>,
    /// Of the full blocks of prompt and output.
    pub(crate) hashes: Arc<[BlockHash]>,
    pub(crate) params: SamplingParams,
    pub(crate) limits: Limits,
    pub(crate) stop: Vec<String>,
    pub(crate) skip_special_tokens: bool,
    pub(crate) priority: i32,
    pub(crate) session: Option<u64>,
    /// When the client's bytes were here.
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
}

impl AnswerRequest {
    /// Checks the options against the prompt and the model.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn new(
        id: RequestId,
        prompt: Prompt,
        options: AnswerOptions,
        model: &ServedModel,
        max_model_len: u32,
        (arrived, timeout): (Instant, Duration),
    ) -> Result<Self, RequestError> {
        options
            .params
            .validate()
            .map_err(|error| RequestError::field(error.field, error.to_string()))?;
        check_stops(&options)?;
        let max_tokens = max_tokens(&options, &prompt, max_model_len)?;
        let mut stop_token_ids = options.stop_token_ids;
        stop_token_ids.extend_from_slice(model.tokenizer.stop_token_ids());
        Ok(Self {
            id,
            output: Vec::new(),
            hashes: Arc::clone(&prompt.hashes),
            prompt,
            params: options.params,
            limits: Limits { max_tokens, stop_token_ids, ignore_eos: options.ignore_eos },
            stop: options.stop,
            skip_special_tokens: options.skip_special_tokens,
            priority: options.priority,
            session: options.session,
            arrived,
            deadline: arrived + timeout,
        })
    }

    /// The same request for the `i`-th of several answers: only id and noise differ. The first one is the request itself.
    pub(crate) fn choice(&self, i: usize, id: RequestId) -> Self {
        let mut choice = self.clone();
        choice.id = id;
        if i > 0 {
            choice.params.seed =
                SplitMix64::new(self.params.seed.wrapping_add(i as u64)).next_u64();
        }
        choice
    }

    /// Prompt and output.
    pub(crate) fn given_tokens(&self) -> u32 {
        (self.prompt.tokens.len() + self.output.len()) as u32
    }

    /// The answer goes on elsewhere: the client has got `tokens` more.
    pub(crate) fn resume(&mut self, tokens: &[TokenId]) {
        self.output.extend_from_slice(tokens);
        let block_size = self.prompt.block_size as usize;
        let mut hashes = self.hashes.to_vec();
        let given = self.prompt.tokens.iter().chain(&self.output);
        let unhashed: Vec<_> = given.skip(hashes.len() * block_size).copied().collect();
        // The chain goes on from any block as from the first one.
        let parent = hashes.last().map_or(self.prompt.seed, |last| HashSeed(*last));
        hashes.extend(block_hashes(parent, &unhashed, block_size));
        self.hashes = hashes.into();
    }

    /// Why the answer needs no more tokens, although no worker has said so.
    pub(crate) fn is_complete(&self) -> Option<FinishReason> {
        let Limits { max_tokens, stop_token_ids, ignore_eos } = &self.limits;
        let last = self.output.last()?;
        if !ignore_eos && stop_token_ids.contains(last) {
            return Some(FinishReason::Stop);
        }
        (self.output.len() >= *max_tokens as usize).then_some(FinishReason::Length)
    }

    /// As a worker is told, without the leg.
    pub(crate) fn to_start(&self, now: Instant) -> v1::RunStart {
        let left = self.deadline.saturating_duration_since(now).as_millis();
        v1::RunStart {
            request_id: self.id.to_bytes().to_vec().into(),
            prompt: self.prompt.tokens.to_vec(),
            output: self.output.clone(),
            block_hashes: hashes_to_bytes(&self.hashes),
            sampling: Some((&self.params).into()),
            max_tokens: self.limits.max_tokens,
            stop_token_ids: self.limits.stop_token_ids.clone(),
            ignore_eos: self.limits.ignore_eos,
            timeout_ms: u32::try_from(left).unwrap_or(u32::MAX),
            leg: None,
        }
    }
}

fn max_tokens(
    options: &AnswerOptions,
    prompt: &Prompt,
    max_model_len: u32,
) -> Result<u32, RequestError> {
    // The prompt is shorter than the context.
    let room = max_model_len - prompt.tokens.len() as u32;
    match options.max_tokens {
        None => Ok(room.min(options.default_max_tokens)),
        Some(0) => Err(RequestError::field("max_tokens", "`max_tokens` must be at least 1")),
        Some(asked) if asked > room => Err(RequestError {
            code: ErrorCode::ContextLengthExceeded,
            message: format!(
                "the prompt has {} tokens and `max_tokens` asks for {asked} more: together more than this model's \
                 context of {max_model_len} tokens",
                prompt.tokens.len()
            ),
            param: Some("max_tokens".into()),
        }),
        Some(asked) => Ok(asked),
    }
}

fn check_stops(options: &AnswerOptions) -> Result<(), RequestError> {
    if options.stop.len() > STOPS_MAX || options.stop_token_ids.len() > STOPS_MAX {
        return Err(RequestError::field("stop", format!("at most {STOPS_MAX} stops are allowed")));
    }
    if options.stop.iter().any(String::is_empty) {
        return Err(RequestError::field("stop", "a stop string must not be empty"));
    }
    if options.stop.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
        let message = format!("a stop string may have at most {STOP_BYTES_MAX} bytes");
        return Err(RequestError::field("stop", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
