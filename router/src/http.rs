//! The OpenAI-compatible HTTP API.

mod chat;
mod completions;
mod fields;
mod format;
mod generate;
mod info;
mod options;
mod parts;
mod reply;
mod respond;
mod serve;
mod tokens;

pub(crate) use chat::checked_role;
pub(crate) use generate::text_bytes;
pub(crate) use serve::{UNREAD_TIMEOUT, serve};

use crate::app::App;
use crate::error::RequestError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::routing::{get, post};
use estafette_types::{ErrorCode, name_hash};
use http_body_util::LengthLimitError;
use std::sync::Arc;
use std::time::Duration;

/// A client must have sent its body within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/v1/chat/completions",
            post(async |State(app), body| generate::chat(app, body).await),
        )
        .route(
            "/v1/completions",
            post(async |State(app), body| generate::completions(app, body).await),
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

/// Headers that name the session, the first of them that is there.
const SESSION_HEADERS: [&str; 2] = ["x-session-affinity", "x-session-id"];

impl FromRequest<Arc<App>> for WholeBody {
    type Rejection = RequestError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, RequestError> {
        let limit = app.max_body;
        let late =
            |_| RequestError::new(ErrorCode::InvalidRequest, "the body did not come in time");
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let session = SESSION_HEADERS.into_iter().find_map(header).map(name_hash);
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

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}
