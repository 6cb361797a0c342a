//! What must be so when all is over.

use super::Workers;
use crate::hand::HandMade;
use std::collections::BTreeMap;
use std::fmt;

/// Memory may grow by so much over a soak: buffers and pools of threads that were never all used before.
const GROWTH_BYTES: u64 = 48 << 20;

/// Every worker is there, nothing is in work, every block is free or cached: no transfer and no fence holds any.
pub(super) fn all_rests(cluster: &HandMade, workers: &mut Workers) {
    for (name, worker) in workers.iter_mut() {
        assert_eq!(worker.ended(), None, "{name} has ended by itself");
    }
    cluster.wait_for_workers(workers.len() as u64);
    cluster.wait_until_idle();
}

/// A worker that still waits for somebody would not leave within its grace.
pub(super) fn all_leave(cluster: &HandMade, workers: &mut Workers) {
    for (name, worker) in workers.iter_mut() {
        let output = cluster.drain(name, "60s");
        assert!(output.status.success(), "{name}: {output:?}");
        assert_eq!(worker.wait(), Some(0), "{name}");
    }
}

/// Resident bytes of each process, before and after; pools that are shared are not counted, which neighbours map when they
/// first need them.
#[derive(Debug)]
pub(super) struct Memory {
    before: BTreeMap<String, u64>,
    after: BTreeMap<String, u64>,
}

impl Memory {
    pub(super) fn at_rest(cluster: &HandMade, workers: &Workers) -> Self {
        Self { before: resident(cluster, workers), after: BTreeMap::new() }
    }

    /// No process has more than it had, or its predecessor, when each request had been answered once.
    pub(super) fn now(self, cluster: &HandMade, workers: &Workers) -> Self {
        let after = resident(cluster, workers);
        for (name, bytes) in &after {
            let most = self.before[name] + GROWTH_BYTES;
            assert!(*bytes <= most, "{name} has {bytes} bytes, and had {}", self.before[name]);
        }
        Self { after, ..self }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.after.iter().map(|(name, after)| {
            format!("{name} {} MiB, was {} MiB", after >> 20, self.before[name] >> 20)
        });
        f.write_str(&each.collect::<Vec<_>>().join("; "))
    }
}

fn resident(cluster: &HandMade, workers: &Workers) -> BTreeMap<String, u64> {
    let workers = workers.iter().map(|(name, part)| ((*name).to_owned(), part.id()));
    let all = workers.chain([("router".to_owned(), cluster.router.id())]);
    all.map(|(name, pid)| (name, resident_bytes(pid))).collect()
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}
