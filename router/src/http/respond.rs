//! From answers to a response: whole, or streamed as server-sent events.

use super::format::{Format, Names, UsageBody, WholeAnswer, total};
use super::options::Delivery;
use super::reply::{DONE, ErrorBody, chunk_event, chunk_head, event, event_stream, json};
use crate::answer::{Answer, AnswerPart};
use crate::app::Admitted;
use crate::error::RequestError;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use estafette_types::Usage;
use futures_util::future::try_join_all;
use futures_util::stream::{self, SelectAll, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;

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

type Parts = SelectAll<
    Pin<Box<dyn stream::Stream<Item = (usize, Result<AnswerPart, RequestError>)> + Send>>,
>;

/// The parts of an answer; nothing after its end.
fn parts(index: usize, answer: Answer) -> Parts {
    let parts = stream::unfold(Some(answer), move |answer| async move {
        let mut answer = answer?;
        let part = answer.next().await;
        let more = matches!(part, Ok(AnswerPart::Piece { .. }));
        Some(((index, part), more.then_some(answer)))
    });
    stream::select_all([Box::pin(parts) as Pin<Box<dyn stream::Stream<Item = _> + Send>>])
}

async fn streamed<F: Format>(
    mut admitted: Admitted,
    answers: Vec<Answer>,
    delivery: Delivery,
    names: Names,
    format: F,
) -> Response {
    let count = answers.len();
    let mut all = Parts::new();
    answers.into_iter().enumerate().for_each(|(i, answer)| all.extend(parts(i, answer)));
    // The status line waits for the first part: an error before it has a status of its own.
    let first = match all.next().await {
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
        ready: VecDeque::new(),
        over: false,
    };
    (0..count).for_each(|i| events.open(i));
    if let Some((i, part)) = first {
        events.take(i, part);
    }
    let state = (events, all);
    event_stream(stream::unfold(state, |(mut events, mut all)| async move {
        loop {
            if let Some(bytes) = events.ready.pop_front() {
                return Some((Ok::<Bytes, Infallible>(bytes), (events, all)));
            }
            if events.over {
                return None;
            }
            match all.next().await {
                Some((i, part)) => events.take(i, part),
                None => events.close(),
            }
        }
    }))
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
    ready: VecDeque<Bytes>,
    over: bool,
}

impl<F: Format> Events<F> {
    fn open(&mut self, index: usize) {
        if let Some(choice) = self.format.opening(index) {
            self.chunk(&[choice], None);
        }
    }

    fn chunk(&mut self, choices: &[impl Serialize], usage: Option<UsageBody>) {
        let usage = self.delivery.include_usage.then_some(usage);
        self.ready.push_back(chunk_event(&self.head, choices, usage));
    }

    fn take(&mut self, index: usize, part: Result<AnswerPart, RequestError>) {
        match part {
            Ok(AnswerPart::Piece { text, token }) => {
                let choice = self.format.piece(index, &text, Some(&token), self.offsets[index]);
                self.offsets[index] += text.chars().count();
                self.chunk(&[choice], None);
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
                self.ready.push_back(event(&ErrorBody::from(&error)));
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
        self.ready.push_back(DONE);
        self.admitted.ended(None);
        self.over = true;
    }
}
