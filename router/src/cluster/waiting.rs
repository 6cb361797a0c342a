//! Requests that wait until some worker has room; the order is [`WaitingRoom`]'s.

use super::{Chosen, Cluster, Excluded};
use crate::error::RequestError;
use crate::metrics::RouterMetrics;
use crate::request::AnswerRequest;
use estafette_routing::{NoChoice, Place, Waiter};
use estafette_types::ErrorCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::time::timeout_at;

/// A place in the waiting room. Dropping it gives it back and wakes whoever is next.
#[derive(Debug)]
struct Seat<'a> {
    cluster: &'a Cluster,
    place: Option<Place>,
    woken: Arc<Notify>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let mut registry = self.cluster.lock();
            registry.room.leave(place);
            registry.wake();
        }
        self.cluster.metrics.waiting.decrement(1.0);
    }
}

impl Cluster {
    /// Chooses where `request` goes and books it there; waits while every worker is full.
    ///
    /// # Errors
    /// When no worker is there, the waiting room is full, or the wait takes too long.
    pub(crate) async fn place(
        &self,
        request: &AnswerRequest,
        excluded: &Excluded,
    ) -> Result<Chosen<'_>, RequestError> {
        let until = request.deadline.min(Instant::now() + self.max_wait);
        let mut seat: Option<Seat<'_>> = None;
        loop {
            match self.choose(request, excluded, seat.as_ref().and_then(|s| s.place.as_ref())) {
                Ok(chosen) => return Ok(chosen),
                Err(NoChoice::NoWorker) => {
                    RouterMetrics::routed("no_worker");
                    let message = "no decode worker is ready";
                    return Err(RequestError::new(ErrorCode::NoWorker, message));
                }
                Err(NoChoice::Saturated) => {}
            }
            let seat = match &seat {
                Some(seat) => seat,
                None => seat.insert(self.sit_down(request)?),
            };
            if timeout_at(until.into(), seat.woken.notified()).await.is_err() {
                RouterMetrics::routed("saturated");
                let message = "every worker's queue is full, and none had room in time";
                return Err(RequestError::new(ErrorCode::Overloaded, message));
            }
        }
    }

    /// Enters the waiting room.
    fn sit_down(&self, request: &AnswerRequest) -> Result<Seat<'_>, RequestError> {
        let held = self.index.matches(&request.prompt.hashes).longest();
        let woken = Arc::new(Notify::new());
        let mut registry = self.lock();
        let arrived = request.arrived.saturating_duration_since(self.started).as_micros();
        let waiter = Waiter {
            arrived_micros: u64::try_from(arrived).unwrap_or(u64::MAX),
            priority: request.priority,
            uncached_tokens: self.wanted(request).uncached_tokens(held),
        };
        let place = registry.room.enter(waiter, Arc::clone(&woken)).map_err(|full| {
            RouterMetrics::routed("saturated");
            let message = format!("every worker's queue is full, and {full}");
            RequestError::new(ErrorCode::Overloaded, message)
        })?;
        // What happened between the last attempt and now has woken nobody.
        registry.wake();
        self.metrics.waiting.increment(1.0);
        Ok(Seat { cluster: self, place: Some(place), woken })
    }
}
