//! Every metric there is.

use metrics::Unit;

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The word of the Prometheus text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// As exported.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// Of its value.
    pub unit: Unit,
    /// For people.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($ident:ident = $name:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: Metric =
            Metric { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help };)*
        /// All of them, in the order of the reference page.
        pub const ALL: &[Metric] = &[$($ident,)*];
    };
}

catalogue! {
    REQUESTS = "estafette_requests_total", Counter, Count,
        "Requests that were answered, by endpoint and by the code of the answer (`ok` or a stable error code).";
    REQUESTS_RUNNING = "estafette_requests_running", Gauge, Count,
        "Requests in work now.";
    REQUESTS_WAITING = "estafette_requests_waiting", Gauge, Count,
        "Requests that wait in the router because every worker's queue is full.";
    REQUEST_SECONDS = "estafette_request_seconds", Histogram, Seconds,
        "From the arrival of a request to the end of its answer, by endpoint.";
    TTFT_SECONDS = "estafette_time_to_first_token_seconds", Histogram, Seconds,
        "From the arrival of a request to its first token in the router.";
    ITL_SECONDS = "estafette_inter_token_latency_seconds", Histogram, Seconds,
        "Between two tokens of one answer in the router.";
    TOKENS = "estafette_tokens_total", Counter, Count,
        "Tokens by kind (cached, computed, recomputed, generated), as the workers counted them for ended legs.";
    ROUTES = "estafette_routes_total", Counter, Count,
        "Routing decisions by kind: disaggregated, aggregated, or refused (saturated, no_worker).";
    RETRIES = "estafette_retries_total", Counter, Count,
        "How often an answer went on with other workers, by the code of the error: worker_draining means that its worker left in order.";
    WORKERS = "estafette_workers", Gauge, Count,
        "Workers that can be chosen, by role.";
    WORKER_WAITING = "estafette_worker_waiting_sequences", Gauge, Count,
        "Sequences in a worker's queue.";
    WORKER_WAITING_PREFILL_TOKENS = "estafette_worker_waiting_prefill_tokens", Gauge, Count,
        "Prompt tokens in a worker's queue that no cached block covers.";
    WORKER_PREFILL_TOKENS = "estafette_worker_running_prefill_tokens", Gauge, Count,
        "Prompt tokens still to compute of the prompts that run.";
    WORKER_DECODING = "estafette_worker_decoding_sequences", Gauge, Count,
        "Sequences that produce tokens.";
    WORKER_DECODING_TOKENS = "estafette_worker_decoding_tokens", Gauge, Count,
        "Tokens of KV that those sequences hold.";
    WORKER_FREE_BLOCKS = "estafette_worker_free_blocks", Gauge, Count,
        "KV blocks of a worker that can be had at once.";
    WORKER_TOTAL_BLOCKS = "estafette_worker_total_blocks", Gauge, Count,
        "KV blocks of a worker.";
    WORKER_TOKENS = "estafette_worker_tokens_total", Counter, Count,
        "Tokens done by a worker since it started, by kind.";
    WORKER_STEPS = "estafette_worker_steps_total", Counter, Count,
        "Engine steps of a worker since it started.";
    WORKER_STEP_SECONDS = "estafette_worker_last_step_seconds", Gauge, Seconds,
        "How long a worker's last engine step took.";
}

#[cfg(test)]
mod tests;
