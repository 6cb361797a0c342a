//! When sessions begin.

use super::{Start, Workload};
use crate::streams::{Purpose, stream};

/// For each session the microsecond at which it begins, `None` for those that others start. `speedup` divides the
/// time between sessions; thinking takes as long as ever.
///
/// Sessions that share a tick of the trace's clock are spread over it. Drawn starts are uniform over the time that
/// the rate gives: a Poisson process of which the number of arrivals is known, without a logarithm, which differs between
/// platforms.
pub(crate) fn session_starts(workload: &Workload, speedup: f64, seed: u64) -> Vec<Option<u64>> {
    let mut rng = stream(seed, Purpose::Arrivals);
    let drawn = workload.sessions.iter().filter(|s| s.start == Start::Drawn).count();
    let window = drawn as f64 / workload.sessions_per_second.max(f64::MIN_POSITIVE) * 1e6;
    let crowds = crowds(workload);
    let scaled = |micros: u64| (micros as f64 / speedup) as u64;
    let sessions = workload.sessions.iter().zip(crowds);
    sessions
        .map(|(session, crowded)| match session.start {
            Start::ByParent => None,
            Start::Drawn => Some(scaled(rng.below(window as u64 + 1))),
            Start::At { micros, tick } if crowded => Some(scaled(micros + rng.below(tick))),
            Start::At { micros, .. } => Some(scaled(micros)),
        })
        .collect()
}

/// Which sessions share their tick with others.
fn crowds(workload: &Workload) -> Vec<bool> {
    let at = |i: usize| match workload.sessions.get(i).map(|session| session.start) {
        Some(Start::At { micros, .. }) => Some(micros),
        _ => None,
    };
    let same = |i: usize, j: usize| at(i).is_some() && at(i) == at(j);
    (0..workload.sessions.len()).map(|i| (i > 0 && same(i - 1, i)) || same(i, i + 1)).collect()
}
