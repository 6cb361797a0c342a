//! The figures of one run, and of several runs of one kind.

use crate::cluster::Outcome;
use crate::hits::BestHits;
use crate::record::{Fate, Record, Slo};
use serde::Serialize;

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: f64,
    /// Nine of ten are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Requests of the workload.
    pub requests: u64,
    /// Whose answer came.
    pub finished: u64,
    /// Whom nobody took.
    pub rejected: u64,
    /// Who had no answer when time was up, or did not come to ask because of that.
    pub unfinished: u64,
    /// Share of all requests that met the SLO in both parts. Rejected and unfinished ones did not.
    pub slo: f64,
    /// Requests that met it for each second from the first arrival to the last answer, and for each worker.
    pub goodput_per_worker: f64,
    /// Time to first token of those who got one, in milliseconds.
    pub ttft_ms: Percentiles,
    /// The same on average.
    pub ttft_mean_ms: f64,
    /// Mean time between the tokens of an answer, over answers, in milliseconds.
    pub itl_ms: Percentiles,
    /// Prompt tokens found in a cache, of those of finished requests.
    pub hit_ratio: f64,
    /// What one cache without end would find in the whole trace.
    pub best_hit_ratio: f64,
    /// What the router expected to be found less what was, as a share of prompt tokens.
    pub hit_overestimate: f64,
    /// Bytes of KV handed off.
    pub handed_off_bytes: u64,
    /// Requests that were handed off.
    pub handed_off: u64,
    /// Share of steps beyond where the step times hold.
    pub extrapolated: f64,
    /// Of the event log, in hexadecimal.
    pub log_hash: String,
}

impl Figures {
    pub(crate) fn new(outcome: &Outcome, slo: &Slo, best: &BestHits, workers: u32) -> Self {
        let records = &outcome.records;
        let count = |fate: Fate| records.iter().filter(|record| record.fate == fate).count() as u64;
        let met = records.iter().filter(|record| slo.is_met(record)).count() as f64;
        let began = records.iter().filter_map(|record| record.arrived).min().unwrap_or(0);
        let seconds = outcome.end_micros.saturating_sub(began).max(1) as f64 / 1e6;
        let ttft = sorted(records.iter().filter_map(Record::ttft_micros));
        let finished: Vec<&Record> = records.iter().filter(|r| r.fate == Fate::Finished).collect();
        let sum =
            |of: fn(&Record) -> u64| finished.iter().map(|record| of(record)).sum::<u64>() as f64;
        let tokens = sum(|record| u64::from(record.input_tokens)).max(1.0);
        let cached = sum(|record| record.cached_tokens);
        let mean = ttft.iter().sum::<u64>() as f64 / ttft.len().max(1) as f64;
        Self {
            requests: records.len() as u64,
            finished: finished.len() as u64,
            rejected: count(Fate::Rejected),
            unfinished: count(Fate::Unfinished),
            slo: met / records.len().max(1) as f64,
            goodput_per_worker: met / seconds / f64::from(workers),
            ttft_mean_ms: mean / 1e3,
            ttft_ms: percentiles(&ttft),
            itl_ms: percentiles(&sorted(
                finished.iter().filter(|r| r.output_tokens > 1).filter_map(|r| r.itl_micros()),
            )),
            hit_ratio: cached / tokens,
            best_hit_ratio: best.token_ratio(),
            hit_overestimate: (sum(|record| record.expected_cached_tokens) - cached) / tokens,
            handed_off_bytes: outcome.handed_off_bytes,
            handed_off: records.iter().filter(|record| record.handed_over).count() as u64,
            extrapolated: outcome.extrapolated_steps as f64 / outcome.steps.max(1) as f64,
            log_hash: format!("{:016x}", outcome.log_hash),
        }
    }
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

/// Of sorted microseconds: the smallest value that at least the share `p` does not exceed.
fn percentiles(sorted: &[u64]) -> Percentiles {
    let at = |hundredths: usize| {
        let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
        sorted.get(rank - 1).map_or(0.0, |micros| *micros as f64 / 1e3)
    };
    Percentiles { p50: at(50), p90: at(90), p99: at(99) }
}

/// A figure over several seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The average.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; zeros when there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        if values.is_empty() {
            return Self { min: 0.0, mean: 0.0, max: 0.0 };
        }
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

#[cfg(test)]
mod tests;
