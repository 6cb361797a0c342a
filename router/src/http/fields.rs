//! The fields of a JSON request, each read as what it must be, with its name in the error.
//!
//! One pass finds the fields; each is then read from its own bytes. Fields that nobody asks for are ignored, as OpenAI's
//! clients expect.

use crate::error::RequestError;
use estafette_types::ErrorCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The top level of a request's body.
#[derive(Debug)]
pub(super) struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Finds the fields of `body`.
    ///
    /// # Errors
    /// When it is no UTF-8, no JSON, or no object.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let message = format!("the body is not UTF-8: byte {} is wrong", error.valid_up_to());
            RequestError::new(ErrorCode::InvalidRequest, message)
        })?;
        serde_json::from_str(text).map(Self).map_err(|error| {
            let message = format!("the body is not a JSON object: {error}");
            RequestError::new(ErrorCode::InvalidRequest, message)
        })
    }

    /// The field `name`; `None` when it is missing or null.
    ///
    /// # Errors
    /// When it is something else than a `T`.
    pub(super) fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, RequestError> {
        let Some(raw) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|error| {
            // The place is relative to the field; the name says more.
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            RequestError::field(name, format!("`{name}`: {}", in_json_words(what)))
        })
    }

    /// The field `name`, or the default.
    ///
    /// # Errors
    /// When it is something else than a `T`.
    pub(super) fn get_or<T: Deserialize<'a>>(
        &self,
        name: &str,
        default: T,
    ) -> Result<T, RequestError> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// The field `name`.
    ///
    /// # Errors
    /// When it is missing or something else than a `T`.
    pub(super) fn require<T: Deserialize<'a>>(&self, name: &str) -> Result<T, RequestError> {
        let missing = || RequestError::field(name, format!("`{name}` is missing"));
        self.get(name)?.ok_or_else(missing)
    }
}

/// What serde says, without Rust's names of types.
fn in_json_words(what: &str) -> String {
    const WORDS: [(&str, &[&str]); 3] = [
        ("a whole number", &["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "usize"]),
        ("a number", &["f32", "f64"]),
        ("a list", &["a sequence"]),
    ];
    let Some((found, expected)) = what.rsplit_once(", expected ") else { return what.to_owned() };
    let known = WORDS.iter().find(|(_, names)| names.contains(&expected));
    format!("{found}, expected {}", known.map_or(expected, |(word, _)| word))
}

#[cfg(test)]
mod tests;
