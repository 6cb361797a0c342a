//! Many runs: every policy at every load with every seed.

mod capacity;

pub use capacity::{REFERENCE, capacity};

use crate::cluster::simulate;
use crate::error::SimulateError;
use crate::hits::best_hits;
use crate::policy::Policy;
use crate::record::Slo;
use crate::settings::ClusterSettings;
use crate::summary::{Figures, Spread};
use crate::workload::Workload;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::Xxh3Default;

/// What is compared.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The cluster.
    pub settings: ClusterSettings,
    /// What its clients ask.
    pub workload: Workload,
    /// Who routes.
    pub policies: Vec<Policy>,
    /// How often.
    pub loads: Loads,
    /// The first seed; the others follow it.
    pub first_seed: u64,
    /// Seeds.
    pub seeds: u32,
    /// What counts as good.
    pub slo: Slo,
    /// Runs at once.
    pub threads: usize,
}

/// How the load is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Loads {
    /// As shares of the measured capacity.
    Shares(Vec<f64>),
    /// As factors on the rate of the trace.
    Speedups(Vec<f64>),
}

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Of the measured capacity, if that was measured.
    pub share: Option<f64>,
    /// The factor on the trace's rate.
    pub speedup: f64,
}

/// A policy at a load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Its name.
    pub policy: &'static str,
    /// The load.
    pub load: Load,
    /// By seed.
    pub runs: Vec<Figures>,
}

impl Cell {
    /// A figure over the seeds.
    pub fn spread(&self, figure: impl Fn(&Figures) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(figure))
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The trace.
    pub trace: String,
    /// Its requests.
    pub requests: u64,
    /// Prefill and decode workers.
    pub workers: [u32; 2],
    /// The step times.
    pub preset: String,
    /// Blocks of a worker's pool, and tokens of a block.
    pub kv_blocks: u32,
    /// Tokens of a block.
    pub block_size: u32,
    /// How old what the router knows is, in microseconds.
    pub state_micros: u64,
    /// The factor on the trace's rate at which the cluster is full, if it was measured.
    pub capacity: Option<f64>,
    /// By load, then by policy.
    pub cells: Vec<Cell>,
}

impl Report {
    /// One number for the event logs of all runs, in their order.
    pub fn log_hash(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        for run in self.cells.iter().flat_map(|cell| &cell.runs) {
            hasher.update(run.log_hash.as_bytes());
        }
        hasher.digest()
    }

    /// The hit ratio of a cache that forgets nothing; it is the trace's, so the same in all runs.
    pub fn best_hit_ratio(&self) -> f64 {
        let first = self.cells.first().and_then(|cell| cell.runs.first());
        first.map_or(0.0, |run| run.best_hit_ratio)
    }

    /// The largest share of steps of a run that lie beyond where the step times hold.
    pub fn extrapolated(&self) -> f64 {
        let runs = self.cells.iter().flat_map(|cell| &cell.runs);
        runs.map(|run| run.extrapolated).fold(0.0, f64::max)
    }
}

/// Told about the progress: runs that have ended, of how many, and requests that have.
pub type OnProgress<'a> = &'a (dyn Fn(&str, u64, u64) + Sync);

impl Experiment {
    /// Runs it. `on_progress` hears what is done, and how many requests of how many.
    ///
    /// # Errors
    /// When a setting cannot be.
    pub fn run(&self, on_progress: OnProgress<'_>) -> Result<Report, SimulateError> {
        self.settings.check()?;
        self.check()?;
        let (capacity, loads) = self.loads(on_progress)?;
        let cells = self.cells(&loads, on_progress)?;
        let settings = &self.settings;
        Ok(Report {
            trace: self.workload.name.clone(),
            requests: self.workload.requests(),
            workers: [settings.prefill, settings.decode],
            preset: settings.step_times.name.clone(),
            kv_blocks: settings.kv_blocks,
            block_size: settings.block_size,
            state_micros: settings.state_micros,
            capacity,
            cells,
        })
    }

    fn check(&self) -> Result<(), SimulateError> {
        let (setting, loads) = match &self.loads {
            Loads::Shares(shares) => ("load", shares),
            Loads::Speedups(speedups) => ("speedup", speedups),
        };
        let wrong = |setting, problem: &str| {
            Err(SimulateError::Setting { setting, problem: problem.into() })
        };
        if loads.is_empty() || loads.iter().any(|load| !(load.is_finite() && *load > 0.0)) {
            return wrong(setting, "must be one or more numbers above 0");
        }
        if self.policies.is_empty() {
            return wrong("policy", "names no policy");
        }
        if self.seeds == 0 {
            return wrong("seeds", "must be at least 1");
        }
        Ok(())
    }

    fn loads(
        &self,
        on_progress: OnProgress<'_>,
    ) -> Result<(Option<f64>, Vec<Load>), SimulateError> {
        match &self.loads {
            Loads::Speedups(speedups) => {
                let loads = speedups.iter().map(|&speedup| Load { share: None, speedup });
                Ok((None, loads.collect()))
            }
            Loads::Shares(shares) => {
                let full = capacity(&self.settings, &self.workload, &self.slo, on_progress)?;
                let loads =
                    shares.iter().map(|&share| Load { share: Some(share), speedup: share * full });
                Ok((Some(full), loads.collect()))
            }
        }
    }

    fn cells(
        &self,
        loads: &[Load],
        on_progress: OnProgress<'_>,
    ) -> Result<Vec<Cell>, SimulateError> {
        let seeds = u64::from(self.seeds);
        let kinds: Vec<(Load, Policy)> = loads
            .iter()
            .flat_map(|&load| self.policies.iter().map(move |&policy| (load, policy)))
            .collect();
        let runs: Vec<(Load, Policy, u64)> = kinds
            .iter()
            .flat_map(|&(load, policy)| {
                (0..seeds).map(move |i| (load, policy, self.first_seed + i))
            })
            .collect();
        let figures = self.all(&runs, on_progress)?;
        let mut figures = figures.into_iter();
        let cell = |(load, policy): (Load, Policy)| Cell {
            policy: policy.name(),
            load,
            runs: figures.by_ref().take(self.seeds as usize).collect(),
        };
        Ok(kinds.into_iter().map(cell).collect())
    }

    /// The figures of every run, in their order, whichever thread ran them.
    fn all(
        &self,
        runs: &[(Load, Policy, u64)],
        on_progress: OnProgress<'_>,
    ) -> Result<Vec<Figures>, SimulateError> {
        let best = best_hits(&self.workload);
        let workers = self.settings.prefill + self.settings.decode;
        let requests = self.workload.requests();
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let slots: Vec<Mutex<Option<Result<Figures, SimulateError>>>> =
            runs.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while let Some((i, &(load, policy, seed))) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, runs.get(i)?)))
            {
                let mut before = 0;
                let mut count = |ended: u64| {
                    let all = done.fetch_add(ended - before, Ordering::Relaxed) + ended - before;
                    before = ended;
                    if all.is_multiple_of(64) {
                        on_progress(policy.name(), all, requests * runs.len() as u64);
                    }
                };
                let outcome = simulate(
                    &self.settings,
                    &self.workload,
                    policy,
                    load.speedup,
                    seed,
                    None,
                    &mut count,
                );
                let figures =
                    outcome.map(|outcome| Figures::new(&outcome, &self.slo, &best, workers));
                *slots[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(figures);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, runs.len().max(1)) {
                scope.spawn(work);
            }
        });
        slots
            .into_iter()
            .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
