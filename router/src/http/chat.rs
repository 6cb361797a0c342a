//! `/v1/chat/completions`.

use super::fields::Fields;
use super::format::{Format, WholeAnswer, reason_text};
use crate::error::RequestError;
use estafette_proto::v1::Token;
use estafette_tokenizer::{ChatMessage, Tokenizer};
use estafette_types::{ErrorCode, FinishReason};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The conversation of a request.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) messages: Vec<ChatMessage>,
    pub(super) add_generation_prompt: bool,
    /// More variables for the template.
    pub(super) variables: Map<String, Value>,
}

impl Conversation {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        let messages: Vec<RawMessage> = fields.require("messages")?;
        if messages.is_empty() {
            return Err(RequestError::field("messages", "`messages` must not be empty"));
        }
        let messages: Result<_, _> =
            messages.into_iter().enumerate().map(|(i, message)| message.check(i)).collect();
        Ok(Self {
            messages: messages?,
            add_generation_prompt: fields.get_or("add_generation_prompt", true)?,
            variables: fields.get_or("chat_template_kwargs", Map::new())?,
        })
    }
}

#[derive(Deserialize)]
struct RawMessage {
    role: String,
    content: Option<Value>,
    tool_calls: Option<Value>,
    function_call: Option<Value>,
}

impl RawMessage {
    fn check(self, index: usize) -> Result<ChatMessage, RequestError> {
        let at = |field: &str| format!("messages[{index}].{field}");
        if self.tool_calls.is_some_and(|calls| calls != json!([])) {
            return Err(RequestError::unsupported(&at("tool_calls")));
        }
        if self.function_call.is_some() {
            return Err(RequestError::unsupported(&at("function_call")));
        }
        let role = checked_role(self.role, &at("role"))?;
        let content = content(self.content, role == "assistant", &at("content"))?;
        Ok(ChatMessage { role, content })
    }
}

/// The role as templates know it; `at` is its place in the request.
///
/// # Errors
/// When it is none, or one that is not supported.
pub(crate) fn checked_role(role: String, at: &str) -> Result<String, RequestError> {
    match role.as_str() {
        "system" | "user" | "assistant" => Ok(role),
        // OpenAI's newer name of the system role.
        "developer" => Ok("system".to_owned()),
        "tool" | "function" => Err(RequestError::unsupported(at)),
        other => {
            let message =
                format!("`{at}` must be system, developer, user or assistant, not `{other}`");
            Err(RequestError::field(at, message))
        }
    }
}

/// Text, or parts that are all text.
fn content(value: Option<Value>, may_miss: bool, at: &str) -> Result<String, RequestError> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| part_text(part, at))
            .collect::<Result<Vec<_>, _>>()
            .map(|p| p.concat()),
        None | Some(Value::Null) if may_miss => Ok(String::new()),
        None | Some(Value::Null) => Err(RequestError::field(at, format!("`{at}` is missing"))),
        Some(_) => {
            Err(RequestError::field(at, format!("`{at}` must be a string or a list of text parts")))
        }
    }
}

fn part_text<'a>(part: &'a Value, at: &str) -> Result<&'a str, RequestError> {
    let kind = part["type"].as_str().unwrap_or("text");
    if kind != "text" {
        return Err(RequestError {
            code: ErrorCode::Unsupported,
            message: format!("`{at}` has a part of type `{kind}`: this model reads text only"),
            param: Some(at.to_owned()),
        });
    }
    part["text"]
        .as_str()
        .ok_or_else(|| RequestError::field(at, format!("`{at}` has a text part without `text`")))
}

/// `logprobs` switches them on, `top_logprobs` says how many alternatives.
pub(super) fn logprobs(fields: &Fields<'_>) -> Result<Option<u8>, RequestError> {
    let wanted = fields.get_or("logprobs", false)?;
    let top = fields.get::<u8>("top_logprobs")?;
    match (wanted, top) {
        (false, Some(n)) if n > 0 => {
            Err(RequestError::field("top_logprobs", "`top_logprobs` needs `logprobs: true`"))
        }
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0))),
    }
}

#[derive(Serialize)]
struct Piece<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Value,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Delta<'a> {
    content: &'a str,
}

/// Chat answers.
pub(super) struct ChatFormat {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) logprobs: bool,
}

impl ChatFormat {
    fn logprobs<'a>(&self, tokens: impl IntoIterator<Item = &'a Token>) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let content: Vec<Value> = tokens.into_iter().map(|token| self.token(token)).collect();
        json!({ "content": content, "refusal": null })
    }

    fn token(&self, token: &Token) -> Value {
        let entry = |id: u32, logprob: f32| {
            let (text, bytes) = (self.tokenizer.token_text(id), self.tokenizer.token_bytes(id));
            json!({ "token": text, "logprob": logprob, "bytes": bytes })
        };
        let mut value = entry(token.id, token.logprob.unwrap_or_default());
        let top: Vec<Value> = token.top.iter().map(|t| entry(t.id, t.logprob)).collect();
        value["top_logprobs"] = top.into();
        value
    }
}

impl Format for ChatFormat {
    const OBJECTS: (&'static str, &'static str) = ("chat.completion", "chat.completion.chunk");
    const ID_PREFIX: &'static str = "chatcmpl-";

    fn opening(&self, index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        Some(json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }))
    }

    fn piece<'a>(
        &self,
        index: usize,
        text: &'a str,
        token: Option<&Token>,
        _offset: usize,
    ) -> impl Serialize + use<'a> {
        let logprobs = token.map_or(Value::Null, |token| self.logprobs([token]));
        Piece { index, delta: Delta { content: text }, logprobs, finish_reason: None }
    }

    fn ending(&self, index: usize, reason: FinishReason) -> Value {
        json!({ "index": index, "delta": {}, "logprobs": null, "finish_reason": reason_text(reason) })
    }

    fn whole(&self, index: usize, answer: &WholeAnswer) -> Value {
        json!({
            "index": index,
            "message": { "role": "assistant", "content": answer.text, "refusal": null },
            "logprobs": self.logprobs(&answer.tokens),
            "finish_reason": answer.reason.map(reason_text),
        })
    }
}

#[cfg(test)]
mod tests;
