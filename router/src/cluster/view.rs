//! What others may see of the tables: counts and metrics.

use super::registry::{Member, Registry};
use estafette_routing::FleetWorker;
use estafette_telemetry::TextWriter;
use estafette_telemetry::catalogue::{self, Metric};
use estafette_types::{LoadRecord, Role};

/// Workers that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) prefill: usize,
    pub(crate) decode: usize,
}

impl Registry {
    pub(super) fn counts(&self) -> Counts {
        let fleet = &self.fleet;
        Counts { prefill: fleet.count(Role::Prefill), decode: fleet.count(Role::Decode) }
    }
}

/// A metric and its value in a worker's load record.
type Reading = (Metric, fn(&LoadRecord) -> f64);

const READINGS: &[Reading] = &[
    (catalogue::WORKER_WAITING, |load| load.waiting_sequences as f64),
    (catalogue::WORKER_WAITING_PREFILL_TOKENS, |load| load.waiting_prefill_tokens as f64),
    (catalogue::WORKER_PREFILL_TOKENS, |load| load.running_prefill_tokens as f64),
    (catalogue::WORKER_DECODING, |load| load.decoding_sequences as f64),
    (catalogue::WORKER_DECODING_TOKENS, |load| load.decoding_tokens as f64),
    (catalogue::WORKER_FREE_BLOCKS, |load| load.free_blocks as f64),
    (catalogue::WORKER_TOTAL_BLOCKS, |load| load.total_blocks as f64),
    (catalogue::WORKER_STEPS, |load| load.steps as f64),
    (catalogue::WORKER_STEP_SECONDS, |load| load.step_micros as f64 / 1e6),
];

/// The workers' own numbers.
pub(super) fn metrics(registry: &Registry) -> String {
    let mut writer = TextWriter::default();
    let counts = registry.counts();
    writer.metric(
        &catalogue::WORKERS,
        [(Role::Prefill, counts.prefill), (Role::Decode, counts.decode)]
            .map(|(role, count)| (vec![("role", role.to_string())], count as f64)),
    );
    for (metric, read) in READINGS {
        writer.metric(metric, workers(registry).map(|(m, w)| (labels(m, w), read(w.load()))));
    }
    let tokens = workers(registry).flat_map(|(member, worker)| {
        let done = worker.load().done;
        [
            ("cached", done.cached),
            ("computed", done.computed),
            ("recomputed", done.recomputed),
            ("generated", done.generated),
        ]
        .map(|(kind, count)| {
            let mut labels = labels(member, worker);
            labels.push(("kind", kind.to_owned()));
            (labels, count as f64)
        })
    });
    writer.metric(&catalogue::WORKER_TOKENS, tokens);
    writer.finish()
}

fn workers(registry: &Registry) -> impl Iterator<Item = (&Member, &FleetWorker)> {
    registry.members().filter_map(|m| Some((m, registry.fleet.worker(m.key.slot)?)))
}

fn labels(member: &Member, worker: &FleetWorker) -> Vec<(&'static str, String)> {
    vec![("worker", member.key.id.to_string()), ("role", worker.traits().role.to_string())]
}
