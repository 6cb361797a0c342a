//! The shell that both kinds of worker share: load, listen, join, run the engine's thread, drain.
//!
//! Three kinds of activity, no more: one thread that owns the engine, tasks that own sockets, and the queue
//! between them. What differs between prefill and decode is behind [`HandOff`].
#![forbid(unsafe_code)]

mod command;
mod engine_loop;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod join;
mod pulse;
mod run;
mod service;
mod setup;
mod state;

pub use command::{Command, CommandSender, Leg, LegStart, forward};
pub use engine_loop::HandOff;
pub use error::WorkerError;
pub use identity::Identity;
pub use run::{Foundation, run};
