//! What there is to know about the router: model, health, metrics.

use super::reply::json;
use crate::app::App;
use crate::error::RequestError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use estafette_types::ErrorCode;
use serde_json::{Value, json};
use std::sync::Arc;

fn model(app: &App) -> Value {
    json!({
        "id": app.model.name,
        "object": "model",
        "created": app.model.created,
        "owned_by": "estafette",
        "max_model_len": app.max_model_len(),
    })
}

pub(super) async fn models(app: Arc<App>) -> Response {
    json(StatusCode::OK, &json!({ "object": "list", "data": [model(&app)] }))
}

pub(super) async fn one_model(app: Arc<App>, name: String) -> Response {
    match app.check_model(&name) {
        Ok(()) => json(StatusCode::OK, &model(&app)),
        Err(error) => error.into_response(),
    }
}

/// The process runs.
pub(super) async fn live() -> Response {
    json(StatusCode::OK, &json!({ "status": "live" }))
}

/// Requests can be answered: a decode worker is there and its state is known.
pub(super) async fn ready(app: Arc<App>) -> Response {
    let counts = app.cluster.counts();
    let (status, word) = if counts.decode > 0 {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no decode worker is ready")
    };
    let workers = json!({ "prefill": counts.prefill, "decode": counts.decode });
    json(status, &json!({ "status": word, "model": app.model.name, "workers": workers }))
}

pub(super) async fn metrics(app: Arc<App>) -> Response {
    let text = app.exporter.render() + &app.cluster.worker_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(super) async fn not_found(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    let message = format!("there is no {method} {}", uri.path());
    RequestError::new(ErrorCode::NotFound, message).into_response()
}

pub(super) async fn wrong_method(
    method: axum::http::Method,
    uri: axum::http::Uri,
) -> impl IntoResponse {
    let message = format!("{} does not take {method}", uri.path());
    let error = RequestError::new(ErrorCode::InvalidRequest, message);
    (StatusCode::METHOD_NOT_ALLOWED, error)
}
