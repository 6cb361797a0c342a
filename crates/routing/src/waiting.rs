//! The waiting room: who is sent next when workers are full.
//!
//! Pure: the caller brings times and whatever it needs to wake a request (`T`). A request's turn is one number, fixed when
//! it enters: its arrival less what it is credited for little work and for its priority. So a request is overtaken only by
//! those that arrive within a bounded time after it, and nothing starves. The credit is the fair WSPT key of Baseten's fork
//! of Dynamo.
//!
//! Not every request can go where another can: one has failed on some workers, one is too long for the small ones. Those
//! that may go to the same workers are of one *kind* (`K`), and a kind's [`Openings`] say which lengths find a place now.
//! [`WaitingRoom::next`] is the first, in turn, of those that find one: whoever cannot be seated holds up nobody behind him
//! that can, and of those that compete for a place the first gets it.

use crate::NoChoice;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
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
    /// KV blocks that it needs at the start: [`crate::Request::blocks`].
    pub blocks: u64,
    /// Something of it was sent already. A full room lets it in: refused now, all of that would be for nothing.
    pub begun: bool,
}

/// Which requests of a kind find a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// Blocks of the largest worker that has room in its queue; 0 when none has.
    pub now: u64,
    /// Blocks of the largest worker, full or not.
    pub ever: u64,
}

impl Openings {
    /// Every request finds a place.
    pub const ALL: Self = Self { now: u64::MAX, ever: u64::MAX };

    /// Whether a request of so many blocks finds one.
    ///
    /// # Errors
    /// When it has to wait for it, or would wait in vain.
    pub fn check(&self, blocks: u64) -> Result<(), NoChoice> {
        if blocks <= self.now {
            Ok(())
        } else if blocks <= self.ever {
            Err(NoChoice::Saturated)
        } else {
            Err(NoChoice::NoWorker)
        }
    }
}

/// The room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} requests are waiting already")]
pub struct RoomFull(pub usize);

/// Smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    micros: i64,
    /// Among equals, as they came.
    number: u64,
}

/// A place in the room. Give it back with [`WaitingRoom::leave`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is not given back blocks those behind it"]
pub struct Place<K> {
    turn: Turn,
    kind: K,
    blocks: u64,
}

/// Requests of one kind, by their blocks: what finds a place depends on nothing else.
type Kind<T> = BTreeMap<u64, BTreeMap<Turn, T>>;

/// Who waits.
#[derive(Debug)]
pub struct WaitingRoom<K, T> {
    order: QueueOrder,
    capacity: usize,
    kinds: BTreeMap<K, Kind<T>>,
    len: usize,
    next_number: u64,
}

impl<K: Ord + Clone, T> WaitingRoom<K, T> {
    /// An empty room for `capacity` requests, and those that have begun.
    pub fn new(order: QueueOrder, capacity: usize) -> Self {
        Self { order, capacity, kinds: BTreeMap::new(), len: 0, next_number: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A newcomer would be refused.
    pub fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// A request that may go to the workers of `kind` begins to wait.
    ///
    /// # Errors
    /// When the room is full.
    pub fn enter(&mut self, waiter: Waiter, kind: K, waker: T) -> Result<Place<K>, RoomFull> {
        if self.is_full() && !waiter.begun {
            return Err(RoomFull(self.len));
        }
        let turn = Turn { micros: turn(waiter, self.order), number: self.next_number };
        let blocks = waiter.blocks;
        self.next_number += 1;
        self.len += 1;
        let of_kind = self.kinds.entry(kind.clone()).or_default();
        of_kind.entry(blocks).or_default().insert(turn, waker);
        Ok(Place { turn, kind, blocks })
    }

    /// The one whose turn it is: the first of those that find a place, or can wait for none. It asks once for the openings
    /// of each kind, and looks at one request of each length that finds a place.
    pub fn next(&self, openings: impl Fn(&K) -> Openings) -> Option<&T> {
        self.first(openings).map(|(_, waker)| waker)
    }

    /// Whether it is this one's turn.
    pub fn is_next(&self, place: &Place<K>, openings: impl Fn(&K) -> Openings) -> bool {
        self.first(openings).is_some_and(|(turn, _)| turn == place.turn)
    }

    fn first(&self, openings: impl Fn(&K) -> Openings) -> Option<(Turn, &T)> {
        let heads = self.kinds.iter().flat_map(|(kind, lengths)| {
            let Openings { now, ever } = openings(kind);
            let in_vain = lengths.range((Bound::Excluded(ever.max(now)), Bound::Unbounded));
            lengths.range(..=now).chain(in_vain).filter_map(|(_, turns)| turns.first_key_value())
        });
        heads.min_by_key(|(turn, _)| **turn).map(|(turn, waker)| (*turn, waker))
    }

    /// A request waits no longer: it is sent, or nobody wants it any more.
    pub fn leave(&mut self, place: Place<K>) {
        let Entry::Occupied(mut of_kind) = self.kinds.entry(place.kind) else { return };
        let lengths = of_kind.get_mut();
        let Entry::Occupied(mut turns) = lengths.entry(place.blocks) else { return };
        if turns.get_mut().remove(&place.turn).is_some() {
            self.len -= 1;
        }
        if turns.get().is_empty() {
            turns.remove();
        }
        if lengths.is_empty() {
            of_kind.remove();
        }
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
