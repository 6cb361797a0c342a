//! Logging and metrics: how a process talks about itself.
//!
//! Every metric is declared once, in [`catalogue`], with its unit and help text; the processes use the constants.
#![forbid(unsafe_code)]

pub mod catalogue;
mod logging;
mod prometheus;

pub use logging::init_logging;
pub use prometheus::{Exporter, ExporterError, TextWriter};
