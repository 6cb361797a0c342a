//! `/tokenize` and `/detokenize`, in vLLM's form.

use super::chat::Conversation;
use super::completions::RawPrompt;
use super::fields::Fields;
use super::generate::{tokenise, tokenise_chat};
use super::reply::json;
use crate::app::App;
use crate::error::RequestError;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use estafette_types::TokenId;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn tokenize(app: Arc<App>, body: Bytes) -> Response {
    reply(tokens_of(&app, &body).await)
}

pub(super) async fn detokenize(app: Arc<App>, body: Bytes) -> Response {
    reply(text_of(&app, &body))
}

fn reply(result: Result<Value, RequestError>) -> Response {
    match result {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => error.into_response(),
    }
}

async fn tokens_of(app: &Arc<App>, body: &[u8]) -> Result<Value, RequestError> {
    let fields = Fields::parse(body)?;
    app.check_model(&fields.get_or("model", String::new())?)?;
    let tokens = match fields.get::<String>("prompt")? {
        Some(text) => tokenise(app, RawPrompt::Text(text)).await?,
        None if fields.get::<Value>("messages")?.is_some() => {
            tokenise_chat(app, Conversation::read(&fields)?).await?
        }
        None => return Err(RequestError::field("prompt", "`prompt` or `messages` is missing")),
    };
    let strings = fields.get_or("return_token_strs", false)?;
    let texts: Vec<String> = tokens.iter().map(|id| app.model.tokenizer.token_text(*id)).collect();
    Ok(json!({
        "count": tokens.len(),
        "max_model_len": app.max_model_len(),
        "tokens": tokens,
        "token_strs": strings.then_some(texts),
    }))
}

fn text_of(app: &App, body: &[u8]) -> Result<Value, RequestError> {
    let fields = Fields::parse(body)?;
    app.check_model(&fields.get_or("model", String::new())?)?;
    let tokens: Vec<TokenId> = fields.require("tokens")?;
    let vocab = app.model.tokenizer.vocab_size();
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
        let message = format!("token id {token} is not in the vocabulary of {vocab} tokens");
        return Err(RequestError::field("tokens", message));
    }
    Ok(json!({ "prompt": app.model.tokenizer.decode(&tokens, false) }))
}
