//! Wire types stop here: they are turned into the vocabulary once, and checked while they are.

use crate::v1;
use estafette_types::{
    BlockHash, FinishReason, KvEvent, LoadRecord, Role, SamplingParams, TokenLogprob, TopLogprob,
    Usage,
};
use std::fmt;

/// A message that breaks the contract; names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMessage(pub String);

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidMessage {}

/// Hashes as the wire carries them: 16 bytes each.
pub fn hashes_to_bytes(hashes: &[BlockHash]) -> bytes::Bytes {
    hashes.iter().flat_map(|hash| hash.to_bytes()).collect::<Vec<u8>>().into()
}

/// The hashes in `bytes`.
///
/// # Errors
/// When the length is not a multiple of 16.
pub fn hashes_from_bytes(bytes: &[u8]) -> Result<Vec<BlockHash>, InvalidMessage> {
    if !bytes.len().is_multiple_of(16) {
        return Err(InvalidMessage(format!("{} bytes are no whole block hashes", bytes.len())));
    }
    Ok(bytes.chunks_exact(16).filter_map(BlockHash::from_bytes).collect())
}

impl TryFrom<v1::Sampling> for SamplingParams {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Sampling) -> Result<Self, InvalidMessage> {
        let default = Self::default();
        let logprobs = wire
            .logprobs
            .map(u8::try_from)
            .transpose()
            .map_err(|_| InvalidMessage("`logprobs` is too large".into()))?;
        let params = Self {
            temperature: wire.temperature.unwrap_or(default.temperature),
            top_k: wire.top_k.unwrap_or(default.top_k),
            top_p: wire.top_p.unwrap_or(default.top_p),
            min_p: wire.min_p.unwrap_or(default.min_p),
            repetition_penalty: wire.repetition_penalty.unwrap_or(default.repetition_penalty),
            presence_penalty: wire.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: wire.frequency_penalty.unwrap_or(default.frequency_penalty),
            seed: wire.seed.unwrap_or(default.seed),
            logprobs,
        };
        params.validate().map_err(|e| InvalidMessage(e.to_string()))?;
        Ok(params)
    }
}

impl From<&SamplingParams> for v1::Sampling {
    fn from(params: &SamplingParams) -> Self {
        Self {
            temperature: Some(params.temperature),
            top_k: Some(params.top_k),
            top_p: Some(params.top_p),
            min_p: Some(params.min_p),
            repetition_penalty: Some(params.repetition_penalty),
            presence_penalty: Some(params.presence_penalty),
            frequency_penalty: Some(params.frequency_penalty),
            seed: Some(params.seed),
            logprobs: params.logprobs.map(u32::from),
        }
    }
}

impl v1::Token {
    /// The wire form of one token of an answer.
    pub fn new(index: u32, id: u32, logprob: Option<&TokenLogprob>) -> Self {
        let top = logprob.map(|l| l.top.as_slice()).unwrap_or_default();
        Self {
            index,
            id,
            logprob: logprob.map(|l| l.logprob),
            top: top.iter().map(|t| v1::TopLogprob { id: t.token, logprob: t.logprob }).collect(),
        }
    }

    /// The log-probabilities, when the token has them.
    pub fn token_logprob(&self) -> Option<TokenLogprob> {
        let top = self.top.iter().map(|t| TopLogprob { token: t.id, logprob: t.logprob });
        self.logprob.map(|logprob| TokenLogprob { logprob, top: top.collect() })
    }
}

impl From<FinishReason> for v1::FinishReason {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
            FinishReason::Cancelled => Self::Cancelled,
        }
    }
}

impl TryFrom<v1::FinishReason> for FinishReason {
    type Error = InvalidMessage;

    fn try_from(wire: v1::FinishReason) -> Result<Self, InvalidMessage> {
        match wire {
            v1::FinishReason::Stop => Ok(Self::Stop),
            v1::FinishReason::Length => Ok(Self::Length),
            v1::FinishReason::Cancelled => Ok(Self::Cancelled),
            v1::FinishReason::Unspecified => {
                Err(InvalidMessage("`finish_reason` is missing".into()))
            }
        }
    }
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Prefill => Self::Prefill,
            Role::Decode => Self::Decode,
        }
    }
}

impl TryFrom<v1::Role> for Role {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Role) -> Result<Self, InvalidMessage> {
        match wire {
            v1::Role::Prefill => Ok(Self::Prefill),
            v1::Role::Decode => Ok(Self::Decode),
            v1::Role::Unspecified => Err(InvalidMessage("`role` is missing".into())),
        }
    }
}

/// Message structs whose fields have the names of the vocabulary's.
macro_rules! same_fields {
    ($ours:ident { $($field:ident),* }) => {
        impl From<$ours> for v1::$ours {
            fn from(ours: $ours) -> Self {
                Self { $($field: ours.$field,)* }
            }
        }
        impl From<v1::$ours> for $ours {
            fn from(wire: v1::$ours) -> Self {
                Self { $($field: wire.$field,)* }
            }
        }
    };
}

same_fields!(Usage { prompt, cached, computed, recomputed, generated });

impl From<LoadRecord> for v1::Load {
    fn from(load: LoadRecord) -> Self {
        Self {
            waiting_sequences: load.waiting_sequences,
            waiting_prefill_tokens: load.waiting_prefill_tokens,
            prefilling_sequences: load.prefilling_sequences,
            running_prefill_tokens: load.running_prefill_tokens,
            decoding_sequences: load.decoding_sequences,
            decoding_tokens: load.decoding_tokens,
            free_blocks: load.free_blocks,
            total_blocks: load.total_blocks,
            done: Some(load.done.into()),
            prefill_attended: load.prefill_attended,
            steps: load.steps,
            step_micros: load.step_micros,
        }
    }
}

impl From<v1::Load> for LoadRecord {
    fn from(wire: v1::Load) -> Self {
        Self {
            waiting_sequences: wire.waiting_sequences,
            waiting_prefill_tokens: wire.waiting_prefill_tokens,
            prefilling_sequences: wire.prefilling_sequences,
            running_prefill_tokens: wire.running_prefill_tokens,
            decoding_sequences: wire.decoding_sequences,
            decoding_tokens: wire.decoding_tokens,
            free_blocks: wire.free_blocks,
            total_blocks: wire.total_blocks,
            done: wire.done.map(Usage::from).unwrap_or_default(),
            prefill_attended: wire.prefill_attended,
            steps: wire.steps,
            step_micros: wire.step_micros,
        }
    }
}

impl v1::Delta {
    /// The events of one step in the order the message means them: cleared, removed, stored.
    ///
    /// # Errors
    /// When a list of hashes is cut off.
    pub fn events(&self) -> Result<Vec<KvEvent>, InvalidMessage> {
        let cleared = self.cleared.then_some(KvEvent::Cleared);
        let removed = hashes_from_bytes(&self.removed)?.into_iter().map(KvEvent::Removed);
        let stored = hashes_from_bytes(&self.stored)?.into_iter().map(KvEvent::Stored);
        Ok(cleared.into_iter().chain(removed).chain(stored).collect())
    }
}
