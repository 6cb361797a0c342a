//! How much may be tried again, over all requests: when workers fail because they have too much to do, repairs must not
//! multiply it.
//!
//! A bucket of repairs (as Finagle's and linkerd's retry budgets): each answer that starts brings a fifth of one, and besides
//! some come with time, so that a cluster with few and long answers can lose a worker. What moves because its worker leaves
//! in order is no repair.

use std::time::{Duration, Instant};

/// The bucket counts in these, so that its sums are exact.
const UNITS: u64 = 1_000_000;
/// Repairs that an answer brings: at most one in five answers is repaired for long.
const PER_ANSWER: u64 = UNITS / 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// What is in the bucket.
    units: u64,
    /// The most it holds: what the floor brings in `window`, and as much again from answers.
    most: u64,
    /// Repairs of the floor in each window.
    floor: u64,
    window: Duration,
    filled: Instant,
}

impl RetryBudget {
    /// A full bucket, into which time brings `floor` repairs in each `window`.
    pub(crate) fn new(floor: u32, window: Duration, now: Instant) -> Self {
        let floor = u64::from(floor) * UNITS;
        Self { units: floor, most: 2 * floor, floor, window, filled: now }
    }

    /// An answer starts.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.fill(now);
        self.units = self.most.min(self.units + PER_ANSWER);
    }

    /// Takes one repair out; false when there is none.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        self.fill(now);
        let left = self.units.checked_sub(UNITS);
        self.units = left.unwrap_or(self.units);
        left.is_some()
    }

    /// Time alone fills the bucket no further than the floor.
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).min(self.window);
        self.filled = self.filled.max(now);
        let share = passed.as_secs_f64() / self.window.as_secs_f64();
        let brought = (self.floor as f64 * share) as u64;
        self.units = self.units.max(self.floor.min(self.units + brought));
    }
}

#[cfg(test)]
mod tests;
