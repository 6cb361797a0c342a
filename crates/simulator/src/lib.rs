//! A cluster in virtual time that runs the production code.
//!
//! Workers are the real [`estafette_scheduler`] and [`estafette_kv_cache`], the router is the real [`estafette_routing`]
//! over the real [`estafette_kv_index`]; only how long a step takes comes from a model ([`StepTimes`]). Time is integer
//! microseconds, events have a total order, and every draw comes from one seed, so the same settings give the same event
//! log to the last byte, on every machine.
//!
//! [`simulate`] runs one workload under one policy. [`Experiment`] runs many of them and compares.
#![forbid(unsafe_code)]

mod cluster;
mod error;
mod event;
mod experiment;
mod fit;
#[doc(hidden)]
pub mod fuzz;
mod hand_off;
mod hits;
mod html;
mod log;
mod policy;
mod presets;
mod prompt;
mod record;
mod router;
mod settings;
mod step_time;
mod streams;
mod summary;
mod table;
mod worker;
mod workload;

pub use cluster::{Outcome, simulate};
pub use error::SimulateError;
pub use experiment::{Cell, Experiment, Load, Loads, OnProgress, REFERENCE, Report, capacity};
pub use fit::{Fit, FitErrors, Measured, MeasuredStep, fit};
pub use hits::{BestHits, best_hits};
pub use html::html;
pub use policy::Policy;
pub use presets::{DEFAULT_PRESET, preset, preset_names};
pub use record::{Fate, Record, Slo};
pub use router::{Ask, Booked, LegView, RouterPolicy, Seat};
pub use settings::ClusterSettings;
pub use step_time::{
    DecodeTime, MixedTime, PrefillTime, Sharing, StepTime, StepTimes, StepWork, Valid,
};
pub use summary::{Figures, Percentiles, Spread};
pub use table::table;
pub use workload::{Format, Run, Session, Start, Synthetic, Turn, Workload, generate, read};
