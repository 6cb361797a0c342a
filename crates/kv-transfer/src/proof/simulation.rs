//! Whole hand-offs between several prefill and decode workers in virtual time, with a seeded fault injector.
//!
//! One seed is one run: sizes, prompts, tables, grants, chunks, what fails and when all follow from it. The
//! two state machines are the production ones, and so are the frames: everything between two workers is
//! bytes, written by `wire::encode`, cut up, delayed and damaged on the way, and read by `wire::decode`. The
//! blocks are real bytes with real checksums. Only sockets, tasks and clocks are replaced.
//!
//! After the faults end, the run goes on until nothing happens any more; then the invariants of the end hold:
//! one verdict on each side of each transfer, and every slot free.

mod client;
mod decode;
mod faults;
mod link;
mod plan;
mod prefill;
mod server;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;

/// What one run was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulated {
    /// What happened, in order; empty unless it was asked for.
    pub log: Vec<String>,
    /// The invariant that did not hold, in words.
    pub violation: Option<String>,
    /// Transfers that completed, as the decode workers see it.
    pub completed: u64,
    /// Transfers that ended otherwise.
    pub failed: u64,
    /// Units that were sent again.
    pub units_again: u64,
    /// Blocks that were kept of transfers that failed.
    pub blocks_kept: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Events that were handled.
    pub events: u64,
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} completed, {} failed, {} units sent again, {} blocks kept, {} faults, {} events",
            self.completed,
            self.failed,
            self.units_again,
            self.blocks_kept,
            self.faults,
            self.events
        )
    }
}

/// Runs `seed`; the same seed always gives the same run.
pub fn simulate(seed: u64, verbose: bool) -> Simulated {
    world::World::new(plan::Plan::new(seed), verbose).run()
}
