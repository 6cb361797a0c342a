//! What differs between chat and completion answers on the wire.

use crate::answer::AnswerPart;
use estafette_proto::v1::Token;
use estafette_types::{FinishReason, Usage};
use serde::Serialize;
use serde_json::Value;

/// Names of a response that all its parts repeat.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
}

/// One answer, complete.
#[derive(Debug, Default)]
pub(super) struct WholeAnswer {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    pub(super) reason: Option<FinishReason>,
    pub(super) usage: Usage,
}

impl WholeAnswer {
    /// Adds the next part.
    pub(super) fn add(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Piece { text, token } => {
                self.text.push_str(&text);
                self.tokens.push(token);
            }
            AnswerPart::End { text, reason, usage } => {
                self.text.push_str(&text);
                self.reason = Some(reason);
                self.usage = usage;
            }
        }
    }
}

/// Chat or completion.
pub(super) trait Format: Send + Sync + 'static {
    /// The `object` of whole answers, and of chunks.
    const OBJECTS: (&'static str, &'static str);
    /// How ids begin.
    const ID_PREFIX: &'static str;
    /// The first chunk of each choice, if there is one.
    fn opening(&self, index: usize) -> Option<Value>;
    /// The choice in a chunk with text or tokens. There is one for each token: it is written without a tree of values.
    fn piece<'a>(
        &self,
        index: usize,
        text: &'a str,
        token: Option<&Token>,
        offset: usize,
    ) -> impl Serialize + use<'a, Self>;
    /// The choice in the last chunk.
    fn ending(&self, index: usize, reason: FinishReason) -> Value;
    /// A choice in a whole answer.
    fn whole(&self, index: usize, answer: &WholeAnswer) -> Value;
}

/// OpenAI's names.
pub(super) fn reason_text(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}

/// OpenAI's form of token counts.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.generated,
            total_tokens: usage.prompt + usage.generated,
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached },
        }
    }
}

/// The bill of several answers: the prompt of each group of `choices` answers counts once, as its first answer found it.
pub(super) fn total(answers: &[Usage], choices: usize) -> Usage {
    let mut sum = Usage::default();
    for group in answers.chunks(choices.max(1)) {
        let first = group[0];
        sum += Usage { generated: group.iter().map(|usage| usage.generated).sum(), ..first };
    }
    sum
}

#[cfg(test)]
mod tests;
