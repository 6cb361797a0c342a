//! How much a cluster can take.

use super::OnProgress;
use crate::cluster::simulate;
use crate::error::SimulateError;
use crate::policy::Policy;
use crate::record::Slo;
use crate::settings::ClusterSettings;
use crate::workload::Workload;

/// The policy that capacity is measured with: fewest prompt tokens ahead. None of the constants of any score is in it.
pub const REFERENCE: Policy = Policy::LeastWork;

/// The share of requests that are within SLO when an open loop is full: with less, queues grow as long as it lasts.
const OPEN_LOOP: f64 = 0.5;
/// The same of a closed loop, in which clients that wait ask for nothing: queues end by themselves, and half of the
/// requests may be within SLO at any rate.
const CLOSED_LOOP: f64 = 0.9;
/// Speed-ups that are tried at most, from 1 up or down.
const DOUBLINGS: u32 = 12;
/// Halvings of the interval after that: the result is exact to about 4 %.
const HALVINGS: u32 = 4;
/// The runs that are looked at draw their arrivals with this seed.
const SEED: u64 = 1;

/// The largest factor on the trace's rate at which the reference policy keeps its promise to half of the requests, or in a
/// closed loop to nine of ten.
///
/// # Errors
/// When a setting cannot be.
pub fn capacity(
    settings: &ClusterSettings,
    workload: &Workload,
    slo: &Slo,
    on_progress: OnProgress<'_>,
) -> Result<f64, SimulateError> {
    let share = if workload.is_closed_loop() { CLOSED_LOOP } else { OPEN_LOOP };
    let mut tried = 0;
    let mut keeps_up = |speedup: f64| -> Result<bool, SimulateError> {
        tried += 1;
        on_progress("capacity", tried, u64::from(HALVINGS) + 3);
        let outcome = simulate(settings, workload, REFERENCE, speedup, SEED, None, &mut |_| ())?;
        let met = outcome.records.iter().filter(|record| slo.is_met(record)).count();
        Ok(met as f64 >= share * outcome.records.len() as f64)
    };
    let (mut low, mut high) = bracket(&mut keeps_up)?;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if keeps_up(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// A factor that is kept up with, and twice as much, that is not.
fn bracket(
    keeps_up: &mut dyn FnMut(f64) -> Result<bool, SimulateError>,
) -> Result<(f64, f64), SimulateError> {
    let mut speedup = 1.0;
    let rises = keeps_up(speedup)?;
    for _ in 0..DOUBLINGS {
        let next = if rises { speedup * 2.0 } else { speedup / 2.0 };
        if keeps_up(next)? != rises {
            return Ok((f64::min(speedup, next), f64::max(speedup, next)));
        }
        speedup = next;
    }
    let problem = if rises {
        "cannot be measured: the cluster keeps up at any rate; give it fewer workers, or use `speedup`"
    } else {
        "cannot be measured: the cluster keeps up at no rate; give it more workers, or use `speedup`"
    };
    Err(SimulateError::Setting { setting: "load", problem: problem.into() })
}
