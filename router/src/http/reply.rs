//! Answers as bytes: JSON bodies, errors, server-sent events.

use super::format::{Names, UsageBody};
use crate::error::RequestError;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use estafette_types::ErrorCode;
use serde::Serialize;
use serde_json::json;

/// When a client that was turned away may come back.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// `value` as a JSON body.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// OpenAI's form of an error.
#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

impl<'a> From<&'a RequestError> for ErrorBody<'a> {
    fn from(error: &'a RequestError) -> Self {
        let r#type = match error.code.http_status() {
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        let param = error.param.as_deref();
        Self {
            error: ErrorFields {
                message: &error.message,
                r#type,
                param,
                code: error.code.as_str(),
            },
        }
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        // 499 is no registered status; the client that it is for is gone anyway.
        let status = StatusCode::from_u16(self.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &ErrorBody::from(&self));
        if matches!(self.code, ErrorCode::Overloaded | ErrorCode::NoWorker | ErrorCode::Draining) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// A stream of events as a response. `events` are whole events, made by [`event`].
pub(super) fn event_stream<S>(events: S) -> Response
where
    S: futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Proxies that would collect the stream first are asked not to.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// One event that carries `value`.
pub(super) fn event(value: &impl Serialize) -> Bytes {
    let mut out = b"data: ".to_vec();
    match serde_json::to_writer(&mut out, value) {
        Ok(()) => out.extend_from_slice(b"\n\n"),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            out.clear();
        }
    }
    out.into()
}

/// What all chunks of one stream begin with, up to their choices: written once.
pub(super) fn chunk_head(names: &Names, object: &str) -> Vec<u8> {
    let (id, created, model) = (json!(names.id), names.created, json!(names.model));
    format!(
        "data: {{\"id\":{id},\"object\":\"{object}\",\"created\":{created},\"model\":{model},\"choices\":"
    )
    .into_bytes()
}

/// A chunk as an event; `usage` when the client has asked for it, which is null in all but the last chunk.
pub(super) fn chunk_event(
    head: &[u8],
    choices: &[impl Serialize],
    usage: Option<Option<UsageBody>>,
) -> Bytes {
    let mut out = Vec::with_capacity(head.len() + 256);
    out.extend_from_slice(head);
    let written = serde_json::to_writer(&mut out, choices).and_then(|()| {
        usage.map_or(Ok(()), |usage| {
            out.extend_from_slice(b",\"usage\":");
            serde_json::to_writer(&mut out, &usage)
        })
    });
    match written {
        Ok(()) => out.extend_from_slice(b"}\n\n"),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            out.clear();
        }
    }
    out.into()
}

/// The event that ends a stream.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");
