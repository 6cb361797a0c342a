//! Only clients with a key get to the API; health and metrics are open, as probes and scrapers bring none.

use super::discard;
use crate::app::{App, turned_away};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Refuses a request without a key before anything of it is looked at.
pub(super) async fn check_key(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let Err(error) = app.check_key(header) else { return next.run(request).await };
    turned_away("http", &error);
    discard(request, app.max_body).await;
    let mut response = error.into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
