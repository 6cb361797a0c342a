//! The OpenAI-compatible HTTP API.

mod chat;
mod completions;
mod fields;
mod format;
#[doc(hidden)]
pub mod fuzz;
mod generate;
mod guard;
mod info;
mod options;
mod parts;
mod patience;
mod reply;
mod respond;
mod serve;
mod tokens;

pub(crate) use chat::checked_role;
pub(crate) use generate::text_bytes;
pub(crate) use serve::{Limits, UNREAD_TIMEOUT, serve};

use crate::app::App;
use crate::error::RequestError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use estafette_types::{ErrorCode, name_hash};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::sync::Arc;
use std::time::Duration;

/// A client must have sent its body within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn routes(app: Arc<App>) -> Router {
    let guard = from_fn_with_state(Arc::clone(&app), guard::check_key);
    let api = Router::new()
        .route(
            "/v1/chat/completions",
            post(async |State(app), request| generate::chat(app, request).await),
        )
        .route(
            "/v1/completions",
            post(async |State(app), request| generate::completions(app, request).await),
        )
        .route(
            "/tokenize",
            post(async |State(app), body: WholeBody| tokens::tokenize(app, body.bytes).await),
        )
        .route(
            "/detokenize",
            post(async |State(app), body: WholeBody| tokens::detokenize(app, body.bytes).await),
        )
        .route("/v1/models", get(async |State(app)| info::models(app).await))
        .route(
            "/v1/models/{*name}",
            get(async |State(app), Path(name)| info::one_model(app, name).await),
        )
        .method_not_allowed_fallback(info::wrong_method)
        .route_layer(guard);
    Router::new()
        .merge(api)
        .route("/health/live", get(info::live))
        .route("/health/ready", get(async |State(app)| info::ready(app).await))
        .route("/metrics", get(async |State(app)| info::metrics(app).await))
        .fallback(info::not_found)
        .method_not_allowed_fallback(info::wrong_method)
        .with_state(app)
}

/// The whole body, within the limits of size and time, and what is read of the headers.
struct WholeBody {
    bytes: Bytes,
    /// Hash of the session's name.
    session: Option<u64>,
}

/// Headers that name the session, the first of them that says something.
const SESSION_HEADERS: [&str; 2] = ["x-session-affinity", "x-session-id"];

impl FromRequest<Arc<App>> for WholeBody {
    type Rejection = RequestError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, RequestError> {
        Self::read(request, app.max_body).await
    }
}

impl WholeBody {
    /// Reads it, at most `limit` bytes.
    ///
    /// # Errors
    /// When it is longer, breaks off or does not come in time.
    async fn read(request: Request, limit: usize) -> Result<Self, RequestError> {
        let late =
            |_| RequestError::new(ErrorCode::InvalidRequest, "the body did not come in time");
        let session = session_of(request.headers());
        let read = axum::body::to_bytes(request.into_body(), limit);
        match tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(late)? {
            Ok(bytes) => Ok(Self { bytes, session }),
            Err(error) if is_too_large(&error) => {
                let message = format!("the body is larger than the limit of {limit} bytes");
                Err(RequestError::new(ErrorCode::BodyTooLarge, message))
            }
            Err(error) => {
                let message = format!("the body broke off: {error}");
                Err(RequestError::new(ErrorCode::InvalidRequest, message))
            }
        }
    }
}

/// Takes what the client sends, and keeps nothing of it: most clients look at their answer only when they have sent all.
/// One that has asked whether it should send is not told to.
async fn discard(request: Request, limit: usize) {
    if request.headers().contains_key(EXPECT) {
        return;
    }
    let mut body = Limited::new(request.into_body(), limit);
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    // What comes later than that, or is longer, breaks the connection.
    drop(tokio::time::timeout(BODY_TIMEOUT, all).await);
}

fn session_of(headers: &HeaderMap) -> Option<u64> {
    let header = |name| headers.get(name).and_then(|value| session_hash(value.to_str().ok()?));
    SESSION_HEADERS.into_iter().find_map(header)
}

/// Hash of a session's name. An empty one names none: all clients that send it would share a worker.
pub(crate) fn session_hash(name: &str) -> Option<u64> {
    (!name.is_empty()).then(|| name_hash(name))
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}

#[cfg(test)]
mod tests;
