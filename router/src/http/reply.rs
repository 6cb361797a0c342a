//! Answers as bytes: JSON bodies, errors, server-sent events.

use super::format::{Names, UsageBody};
use crate::error::RequestError;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use estafette_types::ErrorCode;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;

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

/// A stream of events as a response. Each piece holds whole events, made by [`write_event`] and [`write_chunk`].
pub(super) fn event_stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Proxies that would collect the stream first are asked not to.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(pieces.map(Ok::<_, Infallible>))).into_response()
}

/// Adds one event that carries `value`.
pub(super) fn write_event(out: &mut BytesMut, value: &impl Serialize) {
    let before = out.len();
    out.extend_from_slice(b"data: ");
    let written = serde_json::to_writer(out.writer(), value);
    end_event(out, before, b"\n\n", written);
}

/// What all chunks of one stream begin with, up to their choices: written once.
pub(super) fn chunk_head(names: &Names, object: &str) -> Vec<u8> {
    let (id, created, model) = (json!(names.id), names.created, json!(names.model));
    format!(
        "data: {{\"id\":{id},\"object\":\"{object}\",\"created\":{created},\"model\":{model},\"choices\":"
    )
    .into_bytes()
}

/// Adds a chunk as an event; `usage` when the client has asked for it, which is null in all but the last chunk.
pub(super) fn write_chunk(
    out: &mut BytesMut,
    head: &[u8],
    choices: &[impl Serialize],
    usage: Option<Option<UsageBody>>,
) {
    let before = out.len();
    out.extend_from_slice(head);
    let written = serde_json::to_writer(out.writer(), choices).and_then(|()| {
        usage.map_or(Ok(()), |usage| {
            out.extend_from_slice(b",\"usage\":");
            serde_json::to_writer(out.writer(), &usage)
        })
    });
    end_event(out, before, b"}\n\n", written);
}

/// Ends the event that began at `before` with `last`, or takes it out when it could not be written.
fn end_event(
    out: &mut BytesMut,
    before: usize,
    last: &[u8],
    written: Result<(), serde_json::Error>,
) {
    match written {
        Ok(()) => out.extend_from_slice(last),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            out.truncate(before);
        }
    }
}

/// The event that ends a stream.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";
