//! The router's metrics: handles that are looked up once.

use estafette_telemetry::catalogue;
use estafette_types::{ErrorCode, Usage};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Handles of the metrics that are touched for every request or token.
#[derive(Clone)]
pub(crate) struct RouterMetrics {
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) ttft: Histogram,
    pub(crate) itl: Histogram,
    tokens: [Counter; 4],
}

impl std::fmt::Debug for RouterMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterMetrics").finish_non_exhaustive()
    }
}

impl RouterMetrics {
    pub(crate) fn new() -> Self {
        let kind = |kind: &'static str| counter!(catalogue::TOKENS.name, "kind" => kind);
        Self {
            running: gauge!(catalogue::REQUESTS_RUNNING.name),
            waiting: gauge!(catalogue::REQUESTS_WAITING.name),
            ttft: histogram!(catalogue::TTFT_SECONDS.name),
            itl: histogram!(catalogue::ITL_SECONDS.name),
            tokens: [kind("cached"), kind("computed"), kind("recomputed"), kind("generated")],
        }
    }

    /// What workers did for a leg that has ended.
    pub(crate) fn count(&self, done: &Usage) {
        let counts = [done.cached, done.computed, done.recomputed, done.generated];
        for (counter, count) in self.tokens.iter().zip(counts) {
            counter.increment(count);
        }
    }

    /// An answer goes on with other workers because of an error of this code.
    pub(crate) fn retried(code: ErrorCode) {
        counter!(catalogue::RETRIES.name, "code" => code.as_str()).increment(1);
    }

    /// A routing decision.
    pub(crate) fn routed(kind: &'static str) {
        counter!(catalogue::ROUTES.name, "kind" => kind).increment(1);
    }
}
