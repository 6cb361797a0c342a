//! From answers to a response: whole, or streamed as server-sent events.

use super::format::{Format, Names, UsageBody, WholeAnswer, total};
use super::options::Delivery;
use super::parts::Parts;
use super::reply::{DONE, ErrorBody, chunk_head, event_stream, json, write_chunk, write_event};
use crate::answer::{Answer, AnswerPart};
use crate::app::Admitted;
use crate::error::RequestError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use estafette_types::Usage;
use futures_util::future::try_join_all;
use futures_util::stream::poll_fn as poll_stream;
use serde::Serialize;
use serde_json::{Value, json};
use std::future::poll_fn;
use std::task::{Context, Poll};

/// Events of about so many bytes go out in one piece when they are there at once.
const READY_BYTES: usize = 16 << 10;

/// Sends `answers`, `delivery.choices` to each prompt.
pub(super) async fn respond<F: Format>(
    admitted: Admitted,
    answers: Vec<Answer>,
    delivery: Delivery,
    names: Names,
    format: F,
) -> Response {
    if delivery.stream {
        streamed(admitted, answers, delivery, names, format).await
    } else {
        whole(admitted, answers, delivery, &names, &format).await
    }
}

async fn whole<F: Format>(
    mut admitted: Admitted,
    answers: Vec<Answer>,
    delivery: Delivery,
    names: &Names,
    format: &F,
) -> Response {
    // The first error ends the others: their answers are dropped.
    let answers = match try_join_all(answers.into_iter().map(collect)).await {
        Ok(answers) => answers,
        Err(error) => {
            admitted.ended(Some(&error));
            return error.into_response();
        }
    };
    let choices: Vec<Value> =
        answers.iter().enumerate().map(|(i, answer)| format.whole(i, answer)).collect();
    let usages: Vec<Usage> = answers.iter().map(|answer| answer.usage).collect();
    let mut body = envelope(names, F::OBJECTS.0, &choices);
    body["usage"] = json!(UsageBody::from(total(&usages, delivery.choices)));
    admitted.ended(None);
    json(StatusCode::OK, &body)
}

async fn collect(mut answer: Answer) -> Result<WholeAnswer, RequestError> {
    let mut whole = WholeAnswer::default();
    while whole.reason.is_none() {
        whole.add(answer.next().await?);
    }
    Ok(whole)
}

fn envelope(names: &Names, object: &str, choices: &[Value]) -> Value {
    json!({
        "id": names.id,
        "object": object,
        "created": names.created,
        "model": names.model,
        "choices": choices,
    })
}

async fn streamed<F: Format>(
    mut admitted: Admitted,
    answers: Vec<Answer>,
    delivery: Delivery,
    names: Names,
    format: F,
) -> Response {
    let count = answers.len();
    let mut parts = Parts::new(answers);
    // The status line waits for the first part: an error before it has a status of its own.
    let first = match poll_fn(|cx| parts.poll_next(cx)).await {
        Some((_, Err(error))) => {
            admitted.ended(Some(&error));
            return error.into_response();
        }
        first => first,
    };
    let mut events = Events {
        admitted,
        head: chunk_head(&names, F::OBJECTS.1),
        format,
        delivery,
        usages: vec![Usage::default(); count],
        offsets: vec![0; count],
        ready: BytesMut::new(),
        over: false,
    };
    (0..count).for_each(|i| events.open(i));
    if let Some((i, part)) = first {
        events.take(i, part);
    }
    event_stream(poll_stream(move |cx| events.poll_next(&mut parts, cx)))
}

/// Turns parts into events.
struct Events<F> {
    admitted: Admitted,
    format: F,
    /// What all chunks begin with.
    head: Vec<u8>,
    delivery: Delivery,
    usages: Vec<Usage>,
    /// Characters of each choice so far.
    offsets: Vec<usize>,
    /// Whole events that are to be sent.
    ready: BytesMut,
    over: bool,
}

impl<F: Format> Events<F> {
    /// All events that are there, in one piece; `None` after the last ones.
    fn poll_next(&mut self, parts: &mut Parts, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.over && self.ready.len() < READY_BYTES {
            match parts.poll_next(cx) {
                Poll::Ready(Some((i, part))) => self.take(i, part),
                Poll::Ready(None) => self.close(),
                Poll::Pending => break,
            }
        }
        match (self.ready.is_empty(), self.over) {
            (false, _) => Poll::Ready(Some(self.ready.split().freeze())),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }

    fn open(&mut self, index: usize) {
        if let Some(choice) = self.format.opening(index) {
            self.chunk(&[choice], None);
        }
    }

    fn chunk(&mut self, choices: &[impl Serialize], usage: Option<UsageBody>) {
        let usage = self.delivery.include_usage.then_some(usage);
        write_chunk(&mut self.ready, &self.head, choices, usage);
    }

    fn take(&mut self, index: usize, part: Result<AnswerPart, RequestError>) {
        match part {
            Ok(AnswerPart::Piece { text, token }) => {
                let choice = self.format.piece(index, &text, Some(&token), self.offsets[index]);
                self.chunk(&[choice], None);
                self.offsets[index] += text.chars().count();
            }
            Ok(AnswerPart::End { text, reason, usage }) => {
                if !text.is_empty() {
                    let choice = self.format.piece(index, &text, None, self.offsets[index]);
                    self.chunk(&[choice], None);
                }
                self.chunk(&[self.format.ending(index, reason)], None);
                self.usages[index] = usage;
            }
            Err(error) => {
                self.admitted.ended(Some(&error));
                write_event(&mut self.ready, &ErrorBody::from(&error));
                self.over = true;
            }
        }
    }

    /// Every choice has ended.
    fn close(&mut self) {
        if self.delivery.include_usage {
            let usage = total(&self.usages, self.delivery.choices);
            self.chunk(&[(); 0], Some(usage.into()));
        }
        self.ready.extend_from_slice(DONE);
        self.admitted.ended(None);
        self.over = true;
    }
}
