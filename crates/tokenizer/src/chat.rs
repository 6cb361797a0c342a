//! Chat templates: Jinja as Hugging Face's `apply_chat_template` runs it.

use crate::clock;
use crate::error::TokenizerError;
use crate::json::{Layout, dumps};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::time::{SystemTime, UNIX_EPOCH};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`; the template decides what it knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// What a template is given.
#[derive(Clone, Copy, Debug)]
pub struct ChatRequest<'a> {
    /// The conversation so far.
    pub messages: &'a [ChatMessage],
    /// End with the beginning of the model's turn.
    pub add_generation_prompt: bool,
    /// More variables, from the client.
    pub variables: &'a Map<String, serde_json::Value>,
}

impl<'a> ChatRequest<'a> {
    /// Every text that comes from outside.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let messages = self.messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]);
        messages.chain(self.variables.values().flat_map(strings))
    }

    /// A copy with every text from outside changed by `f`.
    pub(crate) fn map_texts(&self, f: &dyn Fn(&str) -> String) -> OwnedRequest {
        let message = |m: &ChatMessage| ChatMessage { role: f(&m.role), content: f(&m.content) };
        let variable = |(key, value): (&String, &serde_json::Value)| {
            let mut value = value.clone();
            map_strings(&mut value, f);
            (key.clone(), value)
        };
        OwnedRequest {
            messages: self.messages.iter().map(message).collect(),
            add_generation_prompt: self.add_generation_prompt,
            variables: self.variables.iter().map(variable).collect(),
        }
    }
}

/// A [`ChatRequest`] of its own.
#[derive(Debug)]
pub(crate) struct OwnedRequest {
    messages: Vec<ChatMessage>,
    add_generation_prompt: bool,
    variables: Map<String, serde_json::Value>,
}

impl OwnedRequest {
    pub(crate) fn as_request(&self) -> ChatRequest<'_> {
        ChatRequest {
            messages: &self.messages,
            add_generation_prompt: self.add_generation_prompt,
            variables: &self.variables,
        }
    }
}

/// Every string in `value`, keys too.
fn strings(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(list) => list.iter().flat_map(strings).collect(),
        serde_json::Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| [vec![key.as_str()], strings(value)].concat())
            .collect(),
        _ => Vec::new(),
    }
}

fn map_strings(value: &mut serde_json::Value, f: &dyn Fn(&str) -> String) {
    match value {
        serde_json::Value::String(text) => *text = f(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(|v| map_strings(v, f)),
        serde_json::Value::Object(map) => {
            for (key, mut value) in std::mem::take(map) {
                map_strings(&mut value, f);
                map.insert(f(&key), value);
            }
        }
        _ => {}
    }
}

/// A compiled template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

const NAME: &str = "chat";

impl ChatTemplate {
    pub(crate) fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        let bad = |error: &Error| TokenizerError::BadTemplate(describe(error));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| bad(&error))?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| clock::format(unix_now(), format));
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| bad(&error))?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    pub(crate) fn render(&self, chat: &ChatRequest<'_>) -> Result<String, TokenizerError> {
        let refused = |error: Error| TokenizerError::Template(describe(&error));
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let mut variables = chat.variables.clone();
        let own = [
            ("messages", serde_json::json!(chat.messages)),
            ("add_generation_prompt", chat.add_generation_prompt.into()),
            ("bos_token", self.bos.as_str().into()),
            ("eos_token", self.eos.as_str().into()),
        ];
        for (name, value) in own {
            variables.insert(name.to_owned(), value);
        }
        template.render(Serde(&variables)).map_err(refused)
    }
}

/// The error and what it came from, without template internals.
fn describe(error: &Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Seconds since 1970. Hugging Face takes the machine's own time zone; here all routers say the same.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Python's `json.dumps` with its options, `ensure_ascii` off unless asked for.
#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
fn to_json(value: Serde<serde_json::Value>, options: Kwargs) -> Result<Value, Error> {
    let layout = Layout {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get("indent")?,
        separators: options.get::<Option<Serde<_>>>("separators")?.map(|pair| pair.0),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    dumps(&value, layout)
        .map(Value::from_safe_string)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

#[cfg(test)]
mod tests;
