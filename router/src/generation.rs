//! One answer on the workers: chooses them, runs both legs, puts their tokens in order, and counts what was done.
//!
//! A task of its own, so that the count survives a client that goes away: when the [`Generation`] is dropped the legs are
//! cancelled at once, and the task waits for the workers' last words.

mod attempt;
mod order;
mod usage;

use crate::cluster::{Cluster, Excluded};
use crate::error::RequestError;
use crate::request::AnswerRequest;
use attempt::{Attempt, Outcome};
use estafette_proto::v1;
use estafette_types::{ErrorCode, FinishReason, Usage};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for a client that reads slowly; the workers' own queues hold the rest.
const EVENT_QUEUE: usize = 64;
/// How often a request is sent to other workers when the first ones fail before the first token.
const ATTEMPTS: usize = 3;

/// What a generation says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GenerationEvent {
    /// The next token: indices have no gap and no repeat.
    Token(v1::Token),
    /// Nothing follows.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// As the client is billed.
        usage: Usage,
    },
}

/// A running answer. Dropping it cancels.
#[derive(Debug)]
pub(crate) struct Generation {
    events: mpsc::Receiver<Result<GenerationEvent, RequestError>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Generation {
    /// Starts `request` on the workers of `cluster`.
    pub(crate) fn start(cluster: Arc<Cluster>, request: AnswerRequest) -> Self {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(drive(cluster, request, sender, stopped));
        Self { events, stop: Some(stop) }
    }

    /// The next event; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Result<GenerationEvent, RequestError>> {
        self.events.recv().await
    }

    /// No more tokens are wanted. The last event still comes, with the count of everything that was done.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The task may have ended already.
            let _ = stop.send(());
        }
    }
}

/// Where a generation's events go, and how it hears that nobody wants them.
struct Client {
    events: mpsc::Sender<Result<GenerationEvent, RequestError>>,
    /// Fires when the generation is stopped, and when it is dropped.
    stop: oneshot::Receiver<()>,
}

async fn drive(
    cluster: Arc<Cluster>,
    request: AnswerRequest,
    events: mpsc::Sender<Result<GenerationEvent, RequestError>>,
    stop: oneshot::Receiver<()>,
) {
    let mut client = Client { events, stop };
    let last = attempts(&cluster, &request, &mut client).await;
    if let Err(error) = &last {
        tracing::debug!(request = %request.id, %error, "no answer");
    }
    // The client may be gone; the count has been taken either way.
    drop(client.events.send(last).await);
}

async fn attempts(
    cluster: &Cluster,
    request: &AnswerRequest,
    client: &mut Client,
) -> Result<GenerationEvent, RequestError> {
    let mut excluded = Excluded::default();
    let mut last_error = None;
    for _ in 0..ATTEMPTS {
        let chosen = match cluster.choose(request, &excluded) {
            Ok(chosen) => chosen,
            // Nobody else is left: what went wrong first says more.
            Err(error) => return Err(last_error.unwrap_or(error)),
        };
        let attempt = Attempt::new(cluster, request, chosen);
        match attempt.run(client).await {
            Outcome::Ended { reason, usage } => {
                return Ok(GenerationEvent::Finished { reason, usage });
            }
            Outcome::Failed { error, worker: Some(worker), delivered: false }
                if error.code.is_retryable() && error.code != ErrorCode::DeadlineExceeded =>
            {
                cluster.metrics().retries.increment(1);
                excluded.add(worker);
                last_error = Some(error);
            }
            Outcome::Failed { error, .. } => return Err(error),
        }
    }
    Err(last_error
        .unwrap_or_else(|| RequestError::new(ErrorCode::NoWorker, "no worker is left to try")))
}
