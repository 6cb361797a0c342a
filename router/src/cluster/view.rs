//! What others may see of the tables: counts and metrics.

use super::registry::{Member, Registry};
use estafette_telemetry::TextWriter;
use estafette_telemetry::catalogue::{self, Metric};
use estafette_types::Role;

/// Workers that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) prefill: usize,
    pub(crate) decode: usize,
}

impl Registry {
    pub(super) fn counts(&self) -> Counts {
        let count = |role| self.members().filter(|m| m.role == role && m.can_be_chosen()).count();
        Counts { prefill: count(Role::Prefill), decode: count(Role::Decode) }
    }
}

/// A metric and its value for a worker.
type Reading = (Metric, fn(&Member) -> f64);

const READINGS: &[Reading] = &[
    (catalogue::WORKER_WAITING, |m| m.load.waiting_sequences as f64),
    (catalogue::WORKER_WAITING_PREFILL_TOKENS, |m| m.load.waiting_prefill_tokens as f64),
    (catalogue::WORKER_PREFILL_TOKENS, |m| m.load.running_prefill_tokens as f64),
    (catalogue::WORKER_DECODING, |m| m.load.decoding_sequences as f64),
    (catalogue::WORKER_DECODING_TOKENS, |m| m.load.decoding_tokens as f64),
    (catalogue::WORKER_FREE_BLOCKS, |m| m.load.free_blocks as f64),
    (catalogue::WORKER_TOTAL_BLOCKS, |m| m.load.total_blocks as f64),
    (catalogue::WORKER_STEPS, |m| m.load.steps as f64),
    (catalogue::WORKER_STEP_SECONDS, |m| m.load.step_micros as f64 / 1e6),
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
        writer.metric(metric, registry.members().map(|m| (labels(m), read(m))));
    }
    let tokens = registry.members().flat_map(|member| {
        let done = member.load.done;
        [
            ("cached", done.cached),
            ("computed", done.computed),
            ("recomputed", done.recomputed),
            ("generated", done.generated),
        ]
        .map(|(kind, count)| {
            let mut labels = labels(member);
            labels.push(("kind", kind.to_owned()));
            (labels, count as f64)
        })
    });
    writer.metric(&catalogue::WORKER_TOKENS, tokens);
    writer.finish()
}

fn labels(member: &Member) -> Vec<(&'static str, String)> {
    vec![("worker", member.key.id.to_string()), ("role", member.role.to_string())]
}
