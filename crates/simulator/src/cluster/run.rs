//! One simulation from beginning to end.

use super::{Cluster, Event, Node};
use crate::cluster::clients::Clients;
use crate::cluster::hosts::Hosts;
use crate::cluster::room::Room;
use crate::error::SimulateError;
use crate::event::{Class, Queue};
use crate::hand_off::HandOffs;
use crate::log::Log;
use crate::policy::Policy;
use crate::record::Record;
use crate::router::Router;
use crate::settings::ClusterSettings;
use crate::streams::{Purpose, stream};
use crate::worker::Worker;
use crate::workload::Workload;
use estafette_types::{Role, Usage};
use std::io::Write;

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// By turn.
    pub records: Vec<Record>,
    /// When the last answer ended, in microseconds.
    pub end_micros: u64,
    /// Bytes of KV handed off.
    pub handed_off_bytes: u64,
    /// Microseconds that all workers' steps took: prefill, decode.
    pub busy_micros: [u64; 2],
    /// Steps run.
    pub steps: u64,
    /// Those beyond where the step times hold.
    pub extrapolated_steps: u64,
    /// Tokens that the workers counted.
    pub done: Usage,
    /// Of the event log.
    pub log_hash: u64,
    /// Events.
    pub events: u64,
    /// What is not where it belongs at the end; nothing unless time was up.
    pub leftover: Option<String>,
}

/// Runs `workload` on a cluster under `policy`. `speedup` divides the time between arrivals, `seed` draws them and the
/// policy's ties. `log` gets the event log. `on_progress` is told how many requests have ended.
///
/// # Errors
/// When a setting cannot be.
pub fn simulate<'a>(
    settings: &'a ClusterSettings,
    workload: &'a Workload,
    policy: Policy,
    speedup: f64,
    seed: u64,
    log: Option<&'a mut dyn Write>,
    on_progress: &mut dyn FnMut(u64),
) -> Result<Outcome, SimulateError> {
    settings.check()?;
    if !(speedup.is_finite() && speedup > 0.0) {
        return Err(SimulateError::Setting {
            setting: "speedup",
            problem: "must be above 0".into(),
        });
    }
    let mut cluster = build(settings, workload, policy, seed, log);
    for (at, turn) in cluster.clients.first_turns(speedup, seed) {
        cluster.queue.push(at, Class::Arrival, u64::from(turn), Event::Arrival);
    }
    cluster.run(on_progress);
    Ok(outcome(&cluster))
}

fn build<'a>(
    settings: &'a ClusterSettings,
    workload: &'a Workload,
    policy: Policy,
    seed: u64,
    log: Option<&'a mut dyn Write>,
) -> Cluster<'a> {
    let workers = settings.roles().map(|role| Worker::new(settings.scheduler(role)));
    let nodes: Vec<_> = workers.map(|worker| Node { worker, waking: false, number: 0 }).collect();
    let seats = settings.roles().zip(nodes.iter().map(|node| node.worker.load()));
    let router =
        Router::new(policy.build(settings, stream(seed, Purpose::Policy)), seats, settings);
    let block_bytes = settings.step_times.kv_bytes_per_token * u64::from(settings.block_size);
    let records = workload.turns.iter().map(|turn| Record {
        input_tokens: turn.input_tokens,
        output_tokens: turn.output_tokens,
        isolated_micros: settings.isolated_micros(turn.input_tokens),
        ..Record::default()
    });
    Cluster {
        settings,
        workload,
        queue: Queue::new(),
        router,
        hosts: Hosts::new(nodes.len(), settings.workers_per_host),
        nodes,
        hand_offs: HandOffs::new(
            block_bytes,
            settings.link_bytes_per_second,
            settings.layer_groups,
        ),
        clients: Clients::new(workload),
        room: Room::new(settings.room),
        placed: vec![None; workload.turns.len()],
        records: records.collect(),
        loss: stream(seed, Purpose::Loss),
        log: Log::new(log),
        effects: Vec::new(),
    }
}

fn outcome(cluster: &Cluster<'_>) -> Outcome {
    let mut busy_micros = [0; 2];
    let mut done = Usage::default();
    let (mut steps, mut extrapolated_steps) = (0, 0);
    for (role, node) in cluster.settings.roles().zip(&cluster.nodes) {
        busy_micros[usize::from(role == Role::Decode)] += node.worker.busy_micros;
        steps += node.worker.steps;
        extrapolated_steps += node.worker.extrapolated;
        done += node.worker.done();
    }
    let leftovers = cluster.nodes.iter().map(|node| node.worker.leftover());
    let leftover = leftovers.chain([cluster.router.leftover()]).flatten().next();
    Outcome {
        end_micros: cluster.records.iter().filter_map(|record| record.finished).max().unwrap_or(0),
        records: cluster.records.clone(),
        handed_off_bytes: cluster.hand_offs.bytes,
        busy_micros,
        steps,
        extrapolated_steps,
        done,
        log_hash: cluster.log.hash(),
        events: cluster.log.lines,
        leftover,
    }
}
