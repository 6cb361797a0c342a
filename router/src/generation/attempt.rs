//! One try to get an answer from one pair of workers.

use super::Client;
use super::fault::{Blame, Fault, blame, blame_each};
use super::order::{Gap, Order};
use super::usage::LegUsage;
use crate::cluster::{Chosen, Cluster, Fate, Target};
use crate::error::RequestError;
use crate::request::AnswerRequest;
use crate::worker_client::{Leg, LegEvent};
use estafette_proto::v1::{self, run_start};
use estafette_types::{ErrorCode, FinishReason, TokenId, Usage};
use std::time::{Duration, Instant};
use tokio::time::{sleep_until, timeout_at};

/// How long a decode worker may stay silent after its prefill worker has died: it either has the KV by then, or is
/// computing the prompt itself and says so within this time.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(60);

/// How an attempt ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each attempt, moved once")]
pub(super) enum Outcome {
    /// In the regular way, or because the client stopped it.
    Ended { reason: FinishReason, usage: Usage },
    /// With an error.
    Failed {
        error: RequestError,
        faults: Vec<Fault>,
        progress: Progress,
        /// What the workers did.
        done: Usage,
        /// What the client would be billed if it went no further.
        billed: Usage,
    },
}

/// How far an attempt has come.
#[derive(Debug)]
pub(super) struct Progress {
    order: Order,
    /// What the client has got from it.
    pub(super) delivered: Vec<TokenId>,
    /// When it got its last token, from whomever.
    last_token: Instant,
}

impl Progress {
    pub(super) fn new(request: &AnswerRequest) -> Self {
        Self { order: Order::default(), delivered: Vec::new(), last_token: request.arrived }
    }

    /// Where the next attempt begins, when the request has been told what was delivered.
    pub(super) fn next(self, request: &AnswerRequest) -> Self {
        let order = Order::after(request.output.len() as u32);
        Self { order, delivered: Vec::new(), last_token: self.last_token }
    }
}

/// What the attempt's loop saw.
enum Seen {
    Stopped,
    Overdue,
    Prefill(Result<LegEvent, RequestError>),
    Decode(Result<LegEvent, RequestError>),
    PrefillLost(Fate),
    DecodeLost,
}

pub(super) struct Attempt<'a> {
    cluster: &'a Cluster,
    request: &'a AnswerRequest,
    chosen: Chosen<'a>,
    prefill: Option<Leg>,
    decode: Option<Leg>,
    usage: LegUsage,
    progress: Progress,
    /// The prefill worker has sent its token.
    prefilled: bool,
    /// The decode worker has said something: it needs the prefill worker no more.
    decoding: bool,
    /// Until when the decode leg may take; earlier than the request's deadline once the prefill worker is lost.
    deadline: Instant,
}

impl<'a> Attempt<'a> {
    /// `progress` is where an earlier attempt has left off. Tokens depend on seed and position alone, so other workers go on
    /// from prompt and output as if nothing had happened.
    pub(super) fn new(
        cluster: &'a Cluster,
        request: &'a AnswerRequest,
        chosen: Chosen<'a>,
        progress: Progress,
    ) -> Self {
        let disaggregated = chosen.prefill.is_some();
        Self {
            cluster,
            request,
            chosen,
            prefill: None,
            decode: None,
            usage: LegUsage { disaggregated, ..LegUsage::default() },
            progress,
            prefilled: false,
            decoding: false,
            deadline: request.deadline,
        }
    }

    pub(super) async fn run(mut self, client: &mut Client) -> Outcome {
        let outcome = match self.start().await {
            Ok(()) => self.follow(client).await,
            Err(blame) => Err(blame),
        };
        self.cancel_legs().await;
        let done = self.usage.done();
        self.cluster.metrics().count(&done);
        let prompt = self.request.prompt.tokens.len() as u64;
        let billed = self.usage.billed(prompt, self.progress.delivered.len() as u64);
        match outcome {
            Ok(reason) => Outcome::Ended { reason, usage: billed },
            Err((error, faults)) => {
                Outcome::Failed { error, faults, progress: self.progress, done, billed }
            }
        }
    }

    /// Sends both legs at once. Neither is given up while it starts, so that what a worker took in is always counted.
    async fn start(&mut self) -> Result<(), Blame> {
        let Chosen { prefill, decode, transfer, .. } = &mut self.chosen;
        let request = self.request;
        let begin = async |target: &mut Target<'_>, leg| {
            let start = v1::RunStart { leg: Some(leg), ..request.to_start(Instant::now()) };
            tokio::select! {
                biased;
                leg = Leg::start(target.channel.clone(), start) => leg,
                _ = target.lost.wait() => Err(silent()),
            }
        };
        let id = || transfer.to_bytes().to_vec().into();
        let (prefill_leg, decode_leg) = match prefill {
            None => (None, begin(decode, run_start::Leg::Aggregated(v1::Aggregated {})).await),
            Some(target) => {
                let push = v1::PrefillLeg { transfer_id: id(), decode: decode.kv.clone() };
                let take = v1::DecodeLeg { transfer_id: id() };
                let (prefill_leg, decode_leg) = tokio::join!(
                    begin(target, run_start::Leg::Prefill(push)),
                    begin(decode, run_start::Leg::Decode(take)),
                );
                (Some((prefill_leg, &*target)), decode_leg)
            }
        };
        let mut failures = Vec::new();
        match decode_leg {
            Ok(leg) => self.decode = Some(leg),
            Err(error) => failures.push((error, decode.worker.clone())),
        }
        match prefill_leg {
            None => {}
            Some((Ok(leg), _)) => self.prefill = Some(leg),
            Some((Err(error), target)) => failures.push((error, target.worker.clone())),
        }
        blame_each(failures)
    }

    /// Delivers tokens until the decode leg has ended.
    async fn follow(&mut self, client: &mut Client) -> Result<FinishReason, Blame> {
        // One timer for all tokens.
        let overdue = sleep_until(self.deadline.into());
        tokio::pin!(overdue);
        loop {
            if !self.deliver(client).await? {
                return Ok(FinishReason::Cancelled);
            }
            if overdue.deadline() != self.deadline.into() {
                overdue.as_mut().reset(self.deadline.into());
            }
            let seen = tokio::select! {
                biased;
                _ = &mut client.stop => Seen::Stopped,
                event = next(&mut self.prefill) => Seen::Prefill(event),
                event = next(&mut self.decode) => Seen::Decode(event),
                fate = lost(&mut self.chosen.prefill), if !self.decoding => Seen::PrefillLost(fate),
                _ = self.chosen.decode.lost.wait() => Seen::DecodeLost,
                () = &mut overdue => Seen::Overdue,
            };
            match seen {
                Seen::Stopped => return Ok(FinishReason::Cancelled),
                Seen::Overdue => return Err((self.overdue(), Vec::new())),
                Seen::Prefill(event) => self.on_prefill(event)?,
                Seen::PrefillLost(fate) => self.prefill_lost(fate)?,
                Seen::DecodeLost => {
                    // Its last word would never come.
                    self.decode = None;
                    return Err(blame(silent(), &self.chosen.decode.worker));
                }
                Seen::Decode(event) => {
                    if let Some(reason) = self.on_decode(event)? {
                        return self.finish(reason, client).await;
                    }
                }
            }
        }
    }

    /// False when nobody listens any more; an error when nobody reads until the deadline.
    async fn deliver(&mut self, client: &Client) -> Result<bool, Blame> {
        while let Some(token) = self.progress.order.pop() {
            let now = Instant::now();
            let metrics = self.cluster.metrics();
            let since = now - self.progress.last_token;
            let first = self.progress.order.delivered() == 1;
            (if first { &metrics.ttft } else { &metrics.itl }).record(since);
            if first {
                client.turn.pass();
            }
            self.progress.last_token = now;
            self.progress.delivered.push(token.id);
            match timeout_at(self.request.deadline.into(), client.token(token)).await {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(_) => return Err((overdue(), Vec::new())),
            }
        }
        Ok(true)
    }

    /// The prefill worker is lost before the decode worker has said anything. When it is gone, its connections say so. When it
    /// is silent, a decode worker that waits for its blocks cannot tell it from a slow one, and whether it had them all is not
    /// known here: both start again, elsewhere or from what the decode worker has cached.
    fn prefill_lost(&mut self, fate: Fate) -> Result<(), Blame> {
        if fate != Fate::Silent && self.prefilled {
            return Ok(());
        }
        self.prefill = None;
        match &self.chosen.prefill {
            Some(target) => Err(blame(silent(), &target.worker)),
            None => Ok(()),
        }
    }

    fn on_prefill(&mut self, event: Result<LegEvent, RequestError>) -> Result<(), Blame> {
        let Some(target) = &self.chosen.prefill else { return Ok(()) };
        target.booked.taken_in();
        match event {
            Ok(LegEvent::Token(token)) => {
                self.prefilled = true;
                self.progress.order.push(token).map_err(|gap| blame(missing(gap), &target.worker))
            }
            Ok(LegEvent::Finished(finished)) => {
                let error = (!self.prefilled).then(|| broken_off(&finished));
                self.usage.prefill = finished.usage.map(Usage::from);
                self.prefill = None;
                error.map_or(Ok(()), |error| Err(blame(error, &target.worker)))
            }
            Err(error) if !self.prefilled => Err(blame(error, &target.worker)),
            Err(error) => {
                tracing::debug!(request = %self.request.id, %error, "lost after the first token");
                self.prefill = None;
                self.deadline = self.deadline.min(Instant::now() + ORPHAN_TIMEOUT);
                Ok(())
            }
        }
    }

    /// The reason when the leg has ended.
    fn on_decode(
        &mut self,
        event: Result<LegEvent, RequestError>,
    ) -> Result<Option<FinishReason>, Blame> {
        let Target { worker, booked, .. } = &self.chosen.decode;
        booked.taken_in();
        self.decoding = true;
        match event {
            Ok(LegEvent::Token(token)) => {
                self.deadline = self.request.deadline;
                self.progress.order.push(token).map_err(|gap| blame(missing(gap), worker))?;
                Ok(None)
            }
            Ok(LegEvent::Finished(finished)) => {
                let reason = FinishReason::try_from(finished.reason()).map_err(|e| {
                    blame(RequestError::new(ErrorCode::WorkerLost, e.to_string()), worker)
                })?;
                self.usage.decode = finished.usage.map(Usage::from);
                self.decode = None;
                if reason == FinishReason::Cancelled {
                    return Err(blame(broken_off(&finished), worker));
                }
                Ok(Some(reason))
            }
            Err(error) => Err(blame(error, worker)),
        }
    }

    /// The decode leg has ended. The first token and the prefill leg's count may still be on their way.
    async fn finish(
        &mut self,
        reason: FinishReason,
        client: &mut Client,
    ) -> Result<FinishReason, Blame> {
        while self.prefill.is_some()
            && (self.progress.delivered.is_empty() || self.progress.order.finish().is_err())
        {
            tokio::select! {
                _ = &mut client.stop => return Ok(FinishReason::Cancelled),
                event = next(&mut self.prefill) => self.on_prefill(event)?,
                fate = lost(&mut self.chosen.prefill) => self.prefill_lost(fate)?,
                () = sleep_until(self.deadline.into()) => {
                    return Err((self.overdue(), Vec::new()));
                }
            }
            if !self.deliver(client).await? {
                return Ok(FinishReason::Cancelled);
            }
        }
        self.progress.order.finish().map_err(|gap| (missing(gap), Vec::new()))?;
        Ok(reason)
    }

    /// Ends what still runs, and takes the count of what it did.
    async fn cancel_legs(&mut self) {
        let end = |leg: Option<Leg>| async {
            match leg {
                Some(leg) => {
                    leg.cancel().await.and_then(|finished| finished.usage).map(Usage::from)
                }
                None => None,
            }
        };
        let (prefill, decode) = tokio::join!(end(self.prefill.take()), end(self.decode.take()));
        self.usage.prefill = self.usage.prefill.or(prefill);
        self.usage.decode = self.usage.decode.or(decode);
    }

    fn overdue(&self) -> RequestError {
        if self.deadline < self.request.deadline {
            return RequestError::new(
                ErrorCode::WorkerLost,
                "the prefill worker was lost and the decode worker did not go on without it",
            );
        }
        overdue()
    }
}

fn overdue() -> RequestError {
    RequestError::new(ErrorCode::DeadlineExceeded, "the request ran into its deadline")
}

/// Returns when the worker of a leg is lost; never, when there is no leg.
async fn lost(target: &mut Option<Target<'_>>) -> Fate {
    match target {
        Some(target) => target.lost.wait().await,
        None => std::future::pending().await,
    }
}

/// Why a worker has ended a leg before it was complete.
fn broken_off(finished: &v1::Finished) -> RequestError {
    if finished.leaving {
        return RequestError::new(ErrorCode::Draining, "the worker leaves");
    }
    let error = "the worker ended the answer before it was complete";
    RequestError::new(ErrorCode::WorkerLost, error)
}

fn silent() -> RequestError {
    let message = "a worker has stopped answering while it worked on this request; send it again";
    RequestError::new(ErrorCode::WorkerLost, message)
}

/// The leg's next event; never, when there is no leg.
async fn next(leg: &mut Option<Leg>) -> Result<LegEvent, RequestError> {
    match leg {
        Some(leg) => leg.next().await,
        None => std::future::pending().await,
    }
}

fn missing(gap: Gap) -> RequestError {
    let message = format!("token {} of the answer was lost between the workers", gap.missing);
    RequestError::new(ErrorCode::WorkerLost, message)
}
