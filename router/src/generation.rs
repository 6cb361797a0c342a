//! One answer on the workers: chooses them, runs both legs, puts their tokens in order, and counts what was done.
//!
//! Whoever asks for the tokens also runs the work, in one task: a token goes from the worker's connection to the client's
//! without waking anybody between them. The work becomes a task of its own when nobody asks any more: when the [`Generation`]
//! is dropped, so that the legs are cancelled at once and the workers' last words are counted; at the request's deadline, which
//! holds also for a client that does not read; and when it waits in the room, where others wait behind it.

mod attempt;
mod fault;
mod order;
mod tries;
mod usage;
mod work;

use crate::cluster::{Chosen, Cluster, Excluded};
use crate::error::RequestError;
use crate::metrics::RouterMetrics;
use crate::request::AnswerRequest;
use attempt::{Attempt, Outcome, Progress};
use estafette_proto::v1;
use estafette_types::{ErrorCode, FinishReason, Usage};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::Instrument;
use tracing::field::Empty;
use tries::Tries;
use usage::Spent;
use work::{Leaves, Work, Worked};

/// Events that may wait for a client that reads slowly; the workers' own queues hold the rest.
const EVENT_QUEUE: usize = 64;
/// A client that does not read may take this long to take the last event.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// Dropped before `work`, which then knows that nobody listens.
    stop: Option<oneshot::Sender<()>>,
    work: Work,
}

impl Generation {
    /// `request` on the workers of `cluster`, when its turn has come. It starts when it is first asked for its next event.
    pub(crate) fn start(cluster: Arc<Cluster>, request: AnswerRequest, turn: Turn) -> Self {
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let span = tracing::debug_span!(
            "request",
            id = %request.id,
            prompt_tokens = request.prompt.tokens.len(),
            prefill = Empty,
            decode = Empty,
            reason = Empty,
            uncached_tokens = Empty,
            expected_first_token_ms = Empty,
        );
        let leaves = Leaves::default();
        let client = Client { events, stop: stopped, turn, leaves: leaves.clone() };
        let deadline = request.deadline;
        let work = Work::new(drive(cluster, request, client).instrument(span), deadline, leaves);
        Self { events: received, stop: Some(stop), work }
    }

    /// The next event; `None` after the last one.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<GenerationEvent, RequestError>>> {
        loop {
            match self.events.try_recv() {
                Ok(event) => return Poll::Ready(Some(event)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                Err(TryRecvError::Empty) => {}
            }
            match self.work.poll(cx) {
                Worked::Here(Poll::Ready(())) => {}
                Worked::Here(Poll::Pending) if self.events.is_empty() => return Poll::Pending,
                Worked::Here(Poll::Pending) => {}
                Worked::Elsewhere => return Poll::Ready(ready!(self.events.poll_recv(cx))),
            }
        }
    }

    /// No more tokens are wanted. The last event still comes, with the count of everything that was done.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The task may have ended already.
            let _ = stop.send(());
        }
    }
}

/// When an answer may start. Of several answers to one prompt the first computes it and the others find it cached, so they
/// wait for its first token.
#[derive(Debug)]
pub(crate) enum Turn {
    /// At once; others wait for `passed` to turn true or to be dropped.
    First { passed: watch::Sender<bool> },
    /// When the first answer has its first token, or has ended.
    After(watch::Receiver<bool>),
}

impl Turn {
    /// The turns of the first answer and of those after it.
    pub(crate) fn order() -> (Self, watch::Receiver<bool>) {
        let (passed, after) = watch::channel(false);
        (Self::First { passed }, after)
    }

    async fn come(&mut self) {
        if let Self::After(first) = self {
            // An error means that the first answer has ended.
            drop(first.wait_for(|passed| *passed).await);
        }
    }

    /// Another answer to the same request has begun.
    fn is_later(&self) -> bool {
        matches!(self, Self::After(_))
    }

    fn pass(&self) {
        if let Self::First { passed } = self {
            passed.send_if_modified(|passed| !std::mem::replace(passed, true));
        }
    }
}

/// Where a generation's events go, and how it hears that nobody wants them.
struct Client {
    events: mpsc::Sender<Result<GenerationEvent, RequestError>>,
    /// Fires when the generation is stopped, and when it is dropped.
    stop: oneshot::Receiver<()>,
    turn: Turn,
    leaves: Leaves,
}

impl Client {
    /// False when nobody listens any more.
    async fn token(&self, token: v1::Token) -> bool {
        // There is room nearly always, and taking it needs no turn in a queue.
        match self.events.try_send(Ok(GenerationEvent::Token(token))) {
            Ok(()) => true,
            Err(TrySendError::Full(event)) => self.events.send(event).await.is_ok(),
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

async fn drive(cluster: Arc<Cluster>, mut request: AnswerRequest, mut client: Client) {
    let last = tokio::select! {
        biased;
        _ = &mut client.stop => Err(gone()),
        () = client.turn.come() => attempts(&cluster, &mut request, &mut client).await,
    };
    if let Err(error) = &last {
        tracing::debug!(request = %request.id, %error, "no answer");
    }
    // The client may be gone; the count has been taken either way.
    drop(timeout(LAST_WORD_TIMEOUT, client.events.send(last)).await);
}

/// Whoever waits in the room must act when its turn comes, whether or not its client reads.
async fn placed<T>(placing: impl Future<Output = T>, leaves: &Leaves) -> T {
    let mut placing = pin!(placing);
    poll_fn(|cx| {
        let polled = placing.as_mut().poll(cx);
        if polled.is_pending() {
            leaves.ask();
        }
        polled
    })
    .await
}

fn gone() -> RequestError {
    RequestError::new(ErrorCode::Cancelled, "the client went away")
}

async fn attempts(
    cluster: &Cluster,
    request: &mut AnswerRequest,
    client: &mut Client,
) -> Result<GenerationEvent, RequestError> {
    let mut excluded = Excluded::default();
    let mut first_error = None;
    let mut progress = Progress::new(request);
    let (mut spent, mut tries) = (Spent::default(), Tries::default());
    cluster.budget().deposit(Instant::now());
    loop {
        let placed = tokio::select! {
            biased;
            // Whoever has read enough of an interrupted answer has it whole.
            _ = &mut client.stop => {
                let whole = !request.output.is_empty();
                let (reason, usage) = (FinishReason::Cancelled, spent.bill());
                return whole.then_some(GenerationEvent::Finished { reason, usage }).ok_or_else(gone);
            }
            placed = placed(place(cluster, request, &mut excluded, tries, &client.turn), &client.leaves) => placed,
        };
        let chosen = match placed {
            Ok(chosen) => chosen,
            // Nobody else is left: what went wrong first says more.
            Err(error) => return Err(first_error.unwrap_or(error)),
        };
        let numerics_id = Arc::clone(&chosen.numerics_id);
        let attempt = Attempt::new(cluster, request, chosen, progress);
        match attempt.run(client).await {
            Outcome::Ended { reason, usage } => {
                let usage = spent.bill_with(usage);
                return Ok(GenerationEvent::Finished { reason, usage });
            }
            Outcome::Failed { error, faults, progress: reached, done, billed } => {
                let delivered = &reached.delivered;
                spent.failed(&done, delivered.len() as u64, billed);
                request.resume(delivered);
                if let Some(reason) = request.is_complete() {
                    return Ok(GenerationEvent::Finished { reason, usage: spent.bill() });
                }
                let withdraw = || cluster.budget().withdraw(Instant::now());
                if !tries.again(&error, &faults, withdraw) {
                    return Err(first_error.unwrap_or(error));
                }
                tracing::debug!(request = %request.id, %error, output = request.output.len(), "it goes on elsewhere");
                RouterMetrics::retried(error.code);
                faults.into_iter().for_each(|fault| fault.settle(cluster, &mut excluded));
                if !request.output.is_empty() {
                    excluded.keep_to(numerics_id);
                }
                progress = reached.next(request);
                first_error.get_or_insert(error);
            }
        }
    }
}

/// A place for the answer. One that has begun does not end because nobody is there at the moment: workers come back.
async fn place<'a>(
    cluster: &'a Cluster,
    request: &AnswerRequest,
    excluded: &mut Excluded,
    tries: Tries,
    turn: &Turn,
) -> Result<Chosen<'a>, RequestError> {
    let begun = tries.any() || turn.is_later();
    let until = request.deadline.min(Instant::now() + cluster.max_wait());
    loop {
        match cluster.place(request, excluded, begun).await {
            Err(error) if error.code == ErrorCode::NoWorker && tries.any() => {
                // Those that have failed it before are better than nobody.
                if !excluded.forgive() && !cluster.changed(until).await {
                    return Err(error);
                }
            }
            placed => return placed,
        }
    }
}

#[cfg(test)]
mod tests;
