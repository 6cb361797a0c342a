//! Entry points of the fuzzers: the bodies of requests, route by route, up to where the model would be asked.

use super::chat::{self, Conversation};
use super::completions;
use super::fields::Fields;
use super::generate::text_bytes;
use super::options::{Delivery, answer_options, refuse_unsupported};
use super::reply::ErrorBody;
use super::session_hash;
use crate::error::RequestError;
use estafette_types::TokenId;

/// A body of `/v1/chat/completions`.
pub fn chat_body(body: &[u8]) {
    shown(read_chat(body));
}

/// A body of `/v1/completions`.
pub fn completion_body(body: &[u8]) {
    shown(read_completion(body));
}

/// A body of `/tokenize` and `/detokenize`.
pub fn token_body(body: &[u8]) {
    shown(read_tokens(body));
}

/// Whatever is wrong can be said in the API's words.
fn shown(result: Result<(), RequestError>) {
    let Err(error) = result else { return };
    assert!(!error.message.is_empty() && (400..500).contains(&error.code.http_status()));
    assert!(serde_json::to_vec(&ErrorBody::from(&error)).is_ok());
    // The other API says it too.
    assert!(!error.to_status().message().is_empty());
}

fn read_chat(body: &[u8]) -> Result<(), RequestError> {
    let fields = common(body)?;
    let logprobs = chat::logprobs(&fields)?;
    options(&fields, logprobs)?;
    let conversation = Conversation::read(&fields)?;
    assert!(text_bytes(&conversation.messages) > 0, "no empty conversation gets through");
    Ok(())
}

fn read_completion(body: &[u8]) -> Result<(), RequestError> {
    let fields = common(body)?;
    let logprobs = completions::logprobs(&fields)?;
    options(&fields, logprobs)?;
    completions::prompts(&fields).map(drop)
}

fn read_tokens(body: &[u8]) -> Result<(), RequestError> {
    let fields = Fields::parse(body)?;
    fields.get_or("return_token_strs", false)?;
    fields.get_or("model", String::new())?;
    if fields.get::<String>("prompt")?.is_none() {
        Conversation::read(&fields)?;
    }
    fields.require::<Vec<TokenId>>("tokens").map(drop)
}

fn common(body: &[u8]) -> Result<Fields<'_>, RequestError> {
    let fields = Fields::parse(body)?;
    fields.get_or("model", String::new())?;
    refuse_unsupported(&fields)?;
    let delivery = Delivery::read(&fields)?;
    assert!(delivery.choices > 0);
    Ok(fields)
}

fn options(fields: &Fields<'_>, logprobs: Option<u8>) -> Result<(), RequestError> {
    let options = answer_options(fields, session_hash("s"), logprobs, 7)?;
    assert!(options.max_tokens != Some(0));
    Ok(())
}

#[cfg(test)]
mod tests;
