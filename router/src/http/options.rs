//! The fields that chat and completion requests share.

use super::fields::Fields;
use super::session_hash;
use crate::error::RequestError;
use crate::request::AnswerOptions;
use estafette_types::{SamplingParams, TokenId};
use serde::Deserialize;
use serde_json::Value;

/// The most answers to one prompt (OpenAI's limit).
const CHOICES_MAX: u32 = 128;

/// How the answers are delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) choices: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

impl Delivery {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        #[derive(Default, Deserialize)]
        struct StreamOptions {
            include_usage: Option<bool>,
        }
        let choices = fields.get_or("n", 1u32)?;
        if !(1..=CHOICES_MAX).contains(&choices) {
            let message = format!("`n` must be between 1 and {CHOICES_MAX}, not {choices}");
            return Err(RequestError::field("n", message));
        }
        let stream = fields.get_or("stream", false)?;
        let options = fields.get::<StreamOptions>("stream_options")?;
        if options.is_some() && !stream {
            let message = "`stream_options` is only allowed with `stream: true`";
            return Err(RequestError::field("stream_options", message));
        }
        let include_usage = options.unwrap_or_default().include_usage.unwrap_or(false);
        Ok(Self { choices: choices as usize, stream, include_usage })
    }
}

/// Reads everything but prompt and log-probabilities. `session` is what the headers say, `drawn` is the seed of requests that bring none.
pub(super) fn answer_options(
    fields: &Fields<'_>,
    session: Option<u64>,
    logprobs: Option<u8>,
    drawn: u64,
) -> Result<AnswerOptions, RequestError> {
    let default = SamplingParams::default();
    let seed = fields.get::<i64>("seed")?;
    let params = SamplingParams {
        temperature: fields.get_or("temperature", default.temperature)?,
        top_k: top_k(fields)?,
        top_p: fields.get_or("top_p", default.top_p)?,
        min_p: fields.get_or("min_p", default.min_p)?,
        repetition_penalty: fields.get_or("repetition_penalty", default.repetition_penalty)?,
        presence_penalty: fields.get_or("presence_penalty", default.presence_penalty)?,
        frequency_penalty: fields.get_or("frequency_penalty", default.frequency_penalty)?,
        // The bits matter, not the sign.
        seed: seed.map_or(drawn, i64::cast_unsigned),
        logprobs,
    };
    Ok(AnswerOptions {
        params,
        max_tokens: max_tokens(fields)?,
        default_max_tokens: u32::MAX,
        stop: stop(fields)?,
        stop_token_ids: fields.get_or("stop_token_ids", Vec::<TokenId>::new())?,
        ignore_eos: fields.get_or("ignore_eos", false)?,
        skip_special_tokens: fields.get_or("skip_special_tokens", true)?,
        priority: fields.get_or("priority", 0)?,
        session: session.or(session_of(fields)?),
    })
}

/// OpenAI's word for requests that share a prefix, for clients that set no header.
fn session_of(fields: &Fields<'_>) -> Result<Option<u64>, RequestError> {
    Ok(fields.get::<String>("prompt_cache_key")?.and_then(|key| session_hash(&key)))
}

/// 0 and -1 both mean: all tokens.
fn top_k(fields: &Fields<'_>) -> Result<u32, RequestError> {
    match fields.get_or("top_k", 0i64)? {
        -1 => Ok(0),
        k => u32::try_from(k).map_err(|_| {
            RequestError::field("top_k", format!("`top_k` must be -1 or more, not {k}"))
        }),
    }
}

/// `max_completion_tokens` is the newer name of `max_tokens`.
fn max_tokens(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    for name in ["max_completion_tokens", "max_tokens"] {
        if let Some(asked) = fields.get::<i64>(name)? {
            if asked < 1 {
                let message = format!("`{name}` must be at least 1, not {asked}");
                return Err(RequestError::field(name, message));
            }
            // More than any context, which is checked later against the prompt.
            return Ok(Some(u32::try_from(asked).unwrap_or(u32::MAX)));
        }
    }
    Ok(None)
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, RequestError> {
    match fields.get::<Value>("stop")? {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(_)) => fields.get_or("stop", Vec::new()),
        Some(_) => Err(RequestError::field("stop", "`stop` must be a string or a list of strings")),
    }
}

/// A field that would change the answer, and when its value does not.
type Unsupported = (&'static str, fn(&Value) -> bool);

const UNSUPPORTED: &[Unsupported] = &[
    ("tools", is_empty),
    ("tool_choice", |v| v == "none" || v == "auto"),
    ("functions", is_empty),
    ("function_call", |v| v == "none" || v == "auto"),
    ("response_format", |v| v["type"] == "text"),
    ("logit_bias", is_empty),
    ("modalities", |v| *v == serde_json::json!(["text"])),
    ("audio", never),
    ("web_search_options", never),
    ("guided_json", never),
    ("guided_regex", never),
    ("guided_choice", never),
    ("guided_grammar", never),
    ("structured_outputs", never),
    ("min_tokens", |v| *v == 0),
    ("best_of", |v| *v == 1),
    ("echo", |v| *v == false),
    ("suffix", |v| v == ""),
    ("use_beam_search", |v| *v == false),
    ("length_penalty", |v| *v == 1.0),
    ("bad_words", is_empty),
    ("allowed_token_ids", is_empty),
    ("include_stop_str_in_output", |v| *v == false),
    ("truncate_prompt_tokens", never),
    ("prompt_logprobs", |v| *v == false || *v == 0),
    ("chat_template", never),
    ("continue_final_message", |v| *v == false),
    ("documents", is_empty),
];

fn never(_: &Value) -> bool {
    false
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// # Errors
/// Names the first field that would change the answer and is not supported.
pub(super) fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), RequestError> {
    for (name, changes_nothing) in UNSUPPORTED {
        if let Some(value) = fields.get::<Value>(name)?
            && !changes_nothing(&value)
        {
            return Err(RequestError::unsupported(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
