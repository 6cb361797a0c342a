//! Which workers run a request: filter → score → pick.
//!
//! Pure: load records, receipts and a seeded generator go in, a [`Decision`] comes out. The score is in seconds of
//! users' time, so nothing has to be weighed against unit-less block counts: what this request waits on the worker
//! (queue ahead, its own uncached prompt, hand-off, decoding) plus what its choice makes others wait.
//! [`explain`] gives every term for every candidate; [`choose`] computes the same terms and keeps none of them.
//!
//! - [`Fleet`]: the workers that are there, with everything that a decision needs of them.
//! - [`Receipts`]: what was dispatched and is not yet in the worker's own record, so that a burst between two records
//!   does not herd onto one worker.
//! - [`WaitingRoom`]: who is sent next when workers are full.
//! - [`StepModel`]: each worker's own step-time curve, learned from its records.
#![forbid(unsafe_code)]

mod candidate;
mod choose;
mod config;
mod cost;
mod explain;
mod fleet;
#[cfg(test)]
mod lessons;
mod receipts;
#[cfg(test)]
mod sketch;
mod standing;
mod step;
mod waiting;

pub use candidate::{Filtered, Request};
pub use choose::{Choice, Decision, NoChoice, Reason};
pub use config::RoutingConfig;
pub use cost::Terms;
pub use explain::{Explained, Explanation};
pub use fleet::{Fleet, FleetWorker, WorkerTraits};
pub use receipts::{Booking, Pending, Receipt, Receipts};
pub use step::{Observation, StepCost, StepModel};
pub use waiting::{Openings, Place, QueueOrder, RoomFull, Waiter, WaitingRoom};
