//! Whether the engine's thread moves, for those to see who cannot ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beaten by the engine's thread before everything that may take long; read by the sockets.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    started: Instant,
    /// Microseconds from `started` to the last beat.
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// It beats at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, last: Arc::default() }
    }

    pub(crate) fn beat(&self, now: Instant) {
        self.last.store(self.micros(now), Ordering::Relaxed);
    }

    /// How long ago the last beat was.
    pub(crate) fn still_for(&self, now: Instant) -> Duration {
        let last = self.last.load(Ordering::Relaxed);
        Duration::from_micros(self.micros(now).saturating_sub(last))
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
