//! The waiting room: who is sent next when every worker is full.
//!
//! Pure: the caller brings times and whatever it needs to wake a request (`T`). A request's turn is one number, fixed when
//! it enters: its arrival less what it is credited for little work and for its priority. So a request is overtaken only by
//! those that arrive within a bounded time after it, and nothing starves. The credit is the fair WSPT key of Baseten's fork
//! of Dynamo.

use std::collections::BTreeMap;
use thiserror::Error;

/// Credit of a request without work, in microseconds.
const CREDIT_MICROS: i64 = 15_000_000;
/// From this many tokens on there is no credit.
const CREDIT_TOKENS: i64 = 8192;
/// What one step of priority is worth, in microseconds.
const PRIORITY_MICROS: i64 = 30_000_000;
/// Priorities beyond this count as this.
const PRIORITY_MAX: i32 = 8;

/// In which order waiting requests are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// As they came.
    #[default]
    Fcfs,
    /// Those with few tokens to compute earlier, by at most 15 seconds.
    ShortestWork,
}

/// A request that enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiter {
    /// When it came to the router, on the caller's clock.
    pub arrived_micros: u64,
    /// Lower is earlier; 0 is usual.
    pub priority: i32,
    /// Tokens that would have to be computed on the worker that holds most of its prompt.
    pub uncached_tokens: u32,
}

/// The room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} requests are waiting already")]
pub struct RoomFull(pub usize);

/// A place in the room. Give it back with [`WaitingRoom::leave`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a place that is not given back blocks those behind it"]
pub struct Place {
    turn: i64,
    number: u64,
}

/// Who waits.
#[derive(Debug)]
pub struct WaitingRoom<T> {
    order: QueueOrder,
    capacity: usize,
    waiting: BTreeMap<Place, T>,
    next_number: u64,
}

impl<T> WaitingRoom<T> {
    /// An empty room for `capacity` requests.
    pub fn new(order: QueueOrder, capacity: usize) -> Self {
        Self { order, capacity, waiting: BTreeMap::new(), next_number: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A request begins to wait.
    ///
    /// # Errors
    /// When the room is full.
    pub fn enter(&mut self, waiter: Waiter, waker: T) -> Result<Place, RoomFull> {
        if self.waiting.len() >= self.capacity {
            return Err(RoomFull(self.waiting.len()));
        }
        let (turn, number) = (turn(waiter, self.order), self.next_number);
        self.next_number += 1;
        self.waiting.insert(Place { turn, number }, waker);
        Ok(Place { turn, number })
    }

    /// Whether it is this one's turn.
    pub fn is_first(&self, place: &Place) -> bool {
        self.waiting.first_key_value().is_some_and(|(first, _)| first == place)
    }

    /// The one whose turn it is.
    pub fn first(&self) -> Option<&T> {
        self.waiting.first_key_value().map(|(_, waker)| waker)
    }

    /// A request waits no longer: it is sent, or nobody wants it any more.
    #[expect(clippy::needless_pass_by_value, reason = "a place is given back once")]
    pub fn leave(&mut self, place: Place) {
        self.waiting.remove(&place);
    }
}

fn turn(waiter: Waiter, order: QueueOrder) -> i64 {
    let arrived = i64::try_from(waiter.arrived_micros).unwrap_or(i64::MAX / 2);
    let missing = i64::from(waiter.uncached_tokens).min(CREDIT_TOKENS);
    let credit = match order {
        QueueOrder::Fcfs => 0,
        QueueOrder::ShortestWork => CREDIT_MICROS * (CREDIT_TOKENS - missing) / CREDIT_TOKENS,
    };
    let priority = i64::from(waiter.priority.clamp(-PRIORITY_MAX, PRIORITY_MAX));
    arrived - credit + priority * PRIORITY_MICROS
}

#[cfg(test)]
mod tests;
