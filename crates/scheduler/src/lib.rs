//! The scheduler: which sequences, and which chunks of their prompts, run in the next step.
//!
//! Pure: it owns the sequences' tokens and the block manager, and turns "what has happened" into "what to run".
//! Continuous batching (Orca, OSDI 2022) with chunked prefill in the same step as decode (Sarathi-Serve, OSDI
//! 2024): decode rows first, prompt chunks fill the rest of the step. When blocks run out the youngest running
//! sequence is preempted and computed again later, as in vLLM; since a row's result does not depend on its
//! batch, it comes back with the same tokens.
#![forbid(unsafe_code)]

mod handoff;
mod load;
mod plan;
mod scheduler;
mod sequence;

pub use handoff::{Reservation, ReserveError};
pub use plan::{ScheduledSequence, StepEvent, StepPlan};
pub use scheduler::{AddError, Scheduler, SchedulerConfig};
pub use sequence::{Mode, NewSequence, Sequence};
