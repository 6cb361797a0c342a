//! The handlers of the two generating endpoints.

use super::chat::{self, ChatFormat, Conversation};
use super::completions::{self, CompletionFormat, RawPrompt};
use super::fields::Fields;
use super::format::{Format, Names};
use super::options::{Delivery, answer_options, refuse_unsupported};
use super::respond::respond;
use super::{WholeBody, discard};
use crate::answer::Answer;
use crate::app::{Admitted, App, turned_away};
use crate::error::RequestError;
use crate::request::{AnswerOptions, Prompt};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use estafette_tokenizer::{ChatMessage, ChatRequest};
use estafette_types::TokenId;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Prompts times answers to each.
const ANSWERS_MAX: usize = 128;

/// `/v1/chat/completions`.
pub(super) async fn chat(app: Arc<App>, request: Request) -> Response {
    run(&app, "chat", request, async |admitted: &Admitted, body: WholeBody| {
        let fields = read(&app, &body.bytes)?;
        let delivery = Delivery::read(&fields)?;
        let logprobs = chat::logprobs(&fields)?;
        let options = answer_options(&fields, body.session, logprobs, app.draw())?;
        let tokens = tokenise_chat(&app, Conversation::read(&fields)?).await?;
        let prompts = vec![app.prompt(tokens, "messages")?];
        let answers = start(&app, admitted, prompts, &options, delivery)?;
        let tokenizer = Arc::clone(&app.model.tokenizer);
        Ok((answers, delivery, ChatFormat { tokenizer, logprobs: logprobs.is_some() }))
    })
    .await
}

/// `/v1/completions`.
pub(super) async fn completions(app: Arc<App>, request: Request) -> Response {
    run(&app, "completions", request, async |admitted: &Admitted, body: WholeBody| {
        let fields = read(&app, &body.bytes)?;
        let delivery = Delivery::read(&fields)?;
        let logprobs = completions::logprobs(&fields)?;
        let options = completion_options(&fields, body.session, logprobs, app.draw())?;
        let mut prompts = Vec::new();
        for prompt in completions::prompts(&fields)? {
            prompts.push(app.prompt(tokenise(&app, prompt).await?, "prompt")?);
        }
        let answers = start(&app, admitted, prompts, &options, delivery)?;
        let tokenizer = Arc::clone(&app.model.tokenizer);
        Ok((answers, delivery, CompletionFormat { tokenizer, logprobs: logprobs.is_some() }))
    })
    .await
}

/// Admits a request, lets `prepare` start its answers, and sends them.
async fn run<F: Format>(
    app: &App,
    endpoint: &'static str,
    request: Request,
    prepare: impl AsyncFnOnce(&Admitted, WholeBody) -> Result<(Vec<Answer>, Delivery, F), RequestError>,
) -> Response {
    let (mut admitted, body) = match admit(app, endpoint, request).await {
        Ok(admitted) => admitted,
        Err(error) => return error.into_response(),
    };
    match prepare(&admitted, body).await {
        Ok((answers, delivery, format)) => {
            let names = names(app, F::ID_PREFIX);
            respond(admitted, answers, delivery, names, format).await
        }
        Err(error) => {
            admitted.ended(Some(&error));
            error.into_response()
        }
    }
}

/// Lets a request in and reads its body. A router that cannot serve it keeps, parses and tokenises none of it.
async fn admit(
    app: &App,
    endpoint: &'static str,
    request: Request,
) -> Result<(Admitted, WholeBody), RequestError> {
    if let Err(error) = app.check_open() {
        turned_away(endpoint, &error);
        discard(request, app.max_body).await;
        return Err(error);
    }
    let body = WholeBody::read(request, app.max_body).await;
    let body = body.inspect_err(|error| turned_away(endpoint, error))?;
    Ok((app.admit(endpoint)?, body))
}

/// The request's fields, when they are for this model and nothing in them is unsupported.
fn read<'a>(app: &App, body: &'a [u8]) -> Result<Fields<'a>, RequestError> {
    let fields = Fields::parse(body)?;
    app.check_model(&fields.get_or("model", String::new())?)?;
    refuse_unsupported(&fields)?;
    Ok(fields)
}

/// A completion without `max_tokens` gets at most 16, as OpenAI's API says; a chat answer goes on as long as it fits.
fn completion_options(
    fields: &Fields<'_>,
    session: Option<u64>,
    logprobs: Option<u8>,
    drawn: u64,
) -> Result<AnswerOptions, RequestError> {
    const DEFAULT_MAX_TOKENS: u32 = 16;
    let options = answer_options(fields, session, logprobs, drawn)?;
    Ok(AnswerOptions { default_max_tokens: DEFAULT_MAX_TOKENS, ..options })
}

pub(super) async fn tokenise_chat(
    app: &Arc<App>,
    conversation: Conversation,
) -> Result<Vec<TokenId>, RequestError> {
    let bytes = text_bytes(&conversation.messages);
    app.tokenise(bytes, move |model| {
        model.tokenizer.encode_chat(&ChatRequest {
            messages: &conversation.messages,
            add_generation_prompt: conversation.add_generation_prompt,
            variables: &conversation.variables,
        })
    })
    .await
}

/// What rendering has to do: the texts, and something for each message.
pub(crate) fn text_bytes(messages: &[ChatMessage]) -> usize {
    const MESSAGE: usize = 16;
    messages.iter().map(|m| MESSAGE + m.role.len() + m.content.len()).sum()
}

pub(super) async fn tokenise(
    app: &Arc<App>,
    prompt: RawPrompt,
) -> Result<Vec<TokenId>, RequestError> {
    match prompt {
        RawPrompt::Tokens(tokens) => Ok(tokens),
        RawPrompt::Text(text) => {
            app.tokenise(text.len(), move |model| model.tokenizer.encode(&text)).await
        }
    }
}

/// Starts every choice of every prompt. All are checked before the first one starts.
fn start(
    app: &App,
    admitted: &Admitted,
    prompts: Vec<Prompt>,
    options: &AnswerOptions,
    delivery: Delivery,
) -> Result<Vec<Answer>, RequestError> {
    let requests: Result<Vec<_>, _> = prompts
        .into_iter()
        .map(|prompt| app.request(prompt, options.clone(), admitted.arrived))
        .collect();
    let requests = requests?;
    let count = requests.len() * delivery.choices;
    if count > ANSWERS_MAX {
        let message =
            format!("{count} answers are too many for one request, at most {ANSWERS_MAX}");
        return Err(RequestError::field("n", message));
    }
    Ok(requests.iter().flat_map(|request| app.answers(request, delivery.choices)).collect())
}

fn names(app: &App, prefix: &str) -> Names {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Names { id: format!("{prefix}{}", app.request_id()), created, model: app.model.name.clone() }
}
