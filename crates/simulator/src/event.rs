//! What will happen, in a total order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Kinds of events, in the order in which they happen within one microsecond: what ends comes before what begins, so
/// freed capacity is seen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A worker's step ends.
    StepEnd,
    /// The last byte of a hand-off is there.
    Transfer,
    /// A message reaches a worker.
    Message,
    /// A hand-off has waited too long.
    Timeout,
    /// A change of a worker's state reaches the router.
    State,
    /// A token or an end reaches the router and the client.
    Run,
    /// A session begins, or its client has thought long enough.
    Arrival,
    /// An idle worker looks at its messages.
    Wake,
}

/// When an event happens. `subject` is what it is about (a worker or a turn): the order of creation decides only
/// among events of one class about one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: u64,
    class: Class,
    subject: u64,
    created: u64,
}

struct Entry<E> {
    key: Key,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// An event that happens now.
pub(crate) struct Happening<E> {
    /// Microseconds since the start.
    pub(crate) at: u64,
    pub(crate) subject: u64,
    pub(crate) event: E,
}

/// The queue.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    created: u64,
    now: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), created: 0, now: 0 }
    }

    /// `event` will happen at `at`, or now when that is over.
    pub(crate) fn push(&mut self, at: u64, class: Class, subject: u64, event: E) {
        let key = Key { at: at.max(self.now), class, subject, created: self.created };
        self.created += 1;
        self.heap.push(Reverse(Entry { key, event }));
    }

    /// The next one; time moves to it.
    pub(crate) fn pop(&mut self) -> Option<Happening<E>> {
        let Reverse(Entry { key, event }) = self.heap.pop()?;
        self.now = key.at;
        Some(Happening { at: key.at, subject: key.subject, event })
    }
}

#[cfg(test)]
mod tests;
