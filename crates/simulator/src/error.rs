//! Why a simulation cannot start.

use thiserror::Error;

/// Every problem is the caller's: once a simulation runs it runs to its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// A name that is in no list.
    #[error("there is no {what} `{name}`; there are: {known}")]
    UnknownName {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A file of step times that is none.
    #[error("the step times are not valid: {0}")]
    StepTimes(String),
    /// Measurements that give no step times.
    #[error("the step times cannot be fitted: {0}")]
    Fit(String),
    /// A trace that cannot be read.
    #[error("the trace is not readable{}: {problem}", place(*.line))]
    Trace {
        /// From 1; 0 when no line is to blame.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A setting that cannot be.
    #[error("`{setting}` {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why not.
        problem: String,
    },
}

fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" at line {line}") }
}
