//! Entry points of the fuzzers: files that somebody found.

use crate::StepTimes;
use crate::workload::read;

/// A trace in any format, packed or not.
pub fn trace(bytes: &[u8]) {
    let Ok(workload) = read("fuzz", bytes) else { return };
    assert!(!workload.turns.is_empty());
    for session in &workload.sessions {
        assert!(session.turns.end as usize <= workload.turns.len());
    }
}

/// Step times, as `estafette bench --fit` writes them.
pub fn step_times(bytes: &[u8]) {
    let Ok(times) = StepTimes::from_json(&String::from_utf8_lossy(bytes)) else { return };
    times.isolated_micros(1_500, 512);
}

#[cfg(test)]
mod tests;
