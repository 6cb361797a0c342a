//! Requests that wait until a worker that may take them has room; the order is [`estafette_routing::WaitingRoom`]'s.

use super::{Chosen, Cluster, Excluded};
use crate::error::RequestError;
use crate::metrics::RouterMetrics;
use crate::request::AnswerRequest;
use estafette_routing::{NoChoice, QueueOrder, RoomFull, Waiter};
use estafette_types::ErrorCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::time::timeout_at;

/// Requests wait for the same workers when the same ones are kept from them.
pub(super) type WaitingRoom = estafette_routing::WaitingRoom<Excluded, Arc<Notify>>;
pub(super) type Place = estafette_routing::Place<Excluded>;

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
    /// Turns a newcomer away that would be refused whatever it asks for, so that nothing is done for it.
    ///
    /// # Errors
    /// When no worker is there, or all are full and so is the waiting room.
    pub(crate) fn check_open(&self) -> Result<(), RequestError> {
        if !*self.ready.borrow() {
            return Err(no_worker());
        }
        let registry = self.lock();
        if !registry.room.is_full() {
            return Ok(());
        }
        let sent = registry.may_choose(None) && registry.openings(&Excluded::default()).now > 0;
        if sent { Ok(()) } else { Err(room_full(RoomFull(registry.room.len()))) }
    }

    /// Chooses where `request` goes and books it there; waits while every worker that may take it is full. With `begun`,
    /// something of it was sent already: it may wait also when the room is full.
    ///
    /// # Errors
    /// When no worker is there, the waiting room is full, or the wait takes too long.
    pub(crate) async fn place(
        &self,
        request: &AnswerRequest,
        excluded: &Excluded,
        begun: bool,
    ) -> Result<Chosen<'_>, RequestError> {
        let until = request.deadline.min(Instant::now() + self.max_wait);
        let mut seat: Option<Seat<'_>> = None;
        loop {
            match self.choose(request, excluded, seat.as_ref().and_then(|s| s.place.as_ref())) {
                Ok(chosen) => return Ok(chosen),
                Err(NoChoice::NoWorker) => return Err(no_worker()),
                Err(NoChoice::Saturated) => {}
            }
            let seat = match &seat {
                Some(seat) => seat,
                None => seat.insert(self.sit_down(request, excluded, begun)?),
            };
            if timeout_at(until.into(), seat.woken.notified()).await.is_err() {
                if until == request.deadline {
                    let message = "the request ran into its deadline while every worker was full";
                    return Err(RequestError::new(ErrorCode::DeadlineExceeded, message));
                }
                RouterMetrics::routed("saturated");
                let message = "every worker's queue is full, and none had room in time";
                return Err(RequestError::new(ErrorCode::Overloaded, message));
            }
        }
    }

    /// Enters the waiting room.
    fn sit_down(
        &self,
        request: &AnswerRequest,
        excluded: &Excluded,
        begun: bool,
    ) -> Result<Seat<'_>, RequestError> {
        let wanted = self.wanted(request);
        let held = match self.queue_order {
            QueueOrder::Fcfs => 0,
            QueueOrder::ShortestWork => self.index.matches(&request.hashes).longest(),
        };
        let woken = Arc::new(Notify::new());
        let mut registry = self.lock();
        let arrived = request.arrived.saturating_duration_since(self.started).as_micros();
        let waiter = Waiter {
            arrived_micros: u64::try_from(arrived).unwrap_or(u64::MAX),
            priority: request.priority,
            uncached_tokens: wanted.uncached_tokens(held),
            blocks: wanted.blocks(),
            begun,
        };
        let entered = registry.room.enter(waiter, excluded.clone(), Arc::clone(&woken));
        let place = entered.map_err(room_full)?;
        // What happened between the last attempt and now has woken nobody.
        registry.wake();
        self.metrics.waiting.increment(1.0);
        Ok(Seat { cluster: self, place: Some(place), woken })
    }
}

fn no_worker() -> RequestError {
    RouterMetrics::routed("no_worker");
    RequestError::new(ErrorCode::NoWorker, "no decode worker is ready")
}

fn room_full(full: RoomFull) -> RequestError {
    RouterMetrics::routed("saturated");
    let message = format!("every worker's queue is full, and {full}");
    RequestError::new(ErrorCode::Overloaded, message)
}

#[cfg(test)]
mod tests;
