//! `/v1/completions`.

use super::fields::Fields;
use super::format::{Format, WholeAnswer, reason_text};
use crate::error::RequestError;
use estafette_proto::v1::Token;
use estafette_tokenizer::Tokenizer;
use estafette_types::{FinishReason, TokenId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Prompts of one request.
const PROMPTS_MAX: usize = 128;
/// The most alternatives of one token.
const TOP_MAX: u8 = 20;

/// A prompt as the client wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RawPrompt {
    Text(String),
    Tokens(Vec<TokenId>),
}

/// One prompt or several: text, token ids, a list of texts, a list of lists of token ids.
pub(super) fn prompts(fields: &Fields<'_>) -> Result<Vec<RawPrompt>, RequestError> {
    let wrong = || {
        let message = "`prompt` must be a string, a list of strings, a list of token ids, or a list of lists of token ids";
        RequestError::field("prompt", message)
    };
    let prompts = match fields.require::<Value>("prompt")? {
        Value::String(text) => vec![RawPrompt::Text(text)],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => {
            vec![RawPrompt::Tokens(fields.require("prompt")?)]
        }
        Value::Array(list) if list.first().is_some_and(Value::is_array) => {
            fields.require::<Vec<_>>("prompt")?.into_iter().map(RawPrompt::Tokens).collect()
        }
        Value::Array(list) if list.first().is_some_and(Value::is_string) => {
            fields.require::<Vec<_>>("prompt")?.into_iter().map(RawPrompt::Text).collect()
        }
        _ => return Err(wrong()),
    };
    if prompts.len() > PROMPTS_MAX {
        let message =
            format!("`prompt` has {} prompts, at most {PROMPTS_MAX} are allowed", prompts.len());
        return Err(RequestError::field("prompt", message));
    }
    Ok(prompts)
}

/// The number of alternatives; any number switches log-probabilities on.
pub(super) fn logprobs(fields: &Fields<'_>) -> Result<Option<u8>, RequestError> {
    match fields.get::<u8>("logprobs")? {
        Some(n) if n > TOP_MAX => Err(RequestError::field(
            "logprobs",
            format!("`logprobs` must be between 0 and {TOP_MAX}, not {n}"),
        )),
        n => Ok(n),
    }
}

/// Completion answers.
pub(super) struct CompletionFormat {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) logprobs: bool,
}

impl CompletionFormat {
    /// Parallel lists over `tokens`; `offset` is where the first one's text starts, in characters.
    fn logprobs(&self, tokens: &[Token], mut offset: usize) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let text = |id| self.tokenizer.token_text(id);
        let (mut texts, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
        for token in tokens {
            let name = text(token.id);
            offsets.push(offset);
            offset += name.chars().count();
            let mut top: Map<String, Value> =
                token.top.iter().map(|t| (text(t.id), json!(t.logprob))).collect();
            // OpenAI always lists the chosen token among the alternatives.
            top.entry(&name).or_insert_with(|| json!(token.logprob));
            texts.push(name);
            logprobs.push(token.logprob);
            tops.push(top);
        }
        json!({
            "tokens": texts,
            "token_logprobs": logprobs,
            "top_logprobs": tops,
            "text_offset": offsets,
        })
    }
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Value,
    finish_reason: Option<&'static str>,
}

impl Format for CompletionFormat {
    const OBJECTS: (&'static str, &'static str) = ("text_completion", "text_completion");
    const ID_PREFIX: &'static str = "cmpl-";

    fn opening(&self, _index: usize) -> Option<Value> {
        None
    }

    fn piece<'a>(
        &self,
        index: usize,
        text: &'a str,
        token: Option<&Token>,
        offset: usize,
    ) -> impl Serialize + use<'a> {
        let logprobs =
            token.map_or(Value::Null, |token| self.logprobs(std::slice::from_ref(token), offset));
        Choice { index, text, logprobs, finish_reason: None }
    }

    fn ending(&self, index: usize, reason: FinishReason) -> Value {
        let finish_reason = Some(reason_text(reason));
        json!(Choice { index, text: "", logprobs: Value::Null, finish_reason })
    }

    fn whole(&self, index: usize, answer: &WholeAnswer) -> Value {
        let logprobs = self.logprobs(&answer.tokens, 0);
        let finish_reason = answer.reason.map(reason_text);
        json!(Choice { index, text: &answer.text, logprobs, finish_reason })
    }
}

#[cfg(test)]
mod tests;
