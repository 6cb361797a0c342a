//! Settings of every process: flags with their defaults, checked into the types that the processes
//! take. The only crate that reads the environment.
#![forbid(unsafe_code)]

mod engine;
mod environment;
#[doc(hidden)]
pub mod fuzz;
mod router;
mod tls;
mod worker;

pub use engine::{BackendKind, EngineArgs, EngineSettings, Transport};
pub use environment::{
    available_threads, cache_dir, log_filter, model_cache_dir, process_seed, runtime_dir,
};
pub use router::{Admission, QueueOrder, RouterArgs, RouterSettings, model_path};
pub use tls::TlsArgs;
pub use worker::{WorkerArgs, WorkerSettings, advertised};

use thiserror::Error;

/// A setting that cannot work. Exit code 64.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A value is out of range, or two values contradict each other.
    #[error("`{flag}`: {problem}")]
    Invalid {
        /// As the user writes it.
        flag: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// No model was named and the default one is not in the cache.
    #[error(
        "no model: name one with `--model PATH`, or run `make model` to get the default one \
         (it was looked for at {looked_at})"
    )]
    NoModel {
        /// Where the default model would be.
        looked_at: String,
    },
    /// Neither `ESTAFETTE_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no cache folder: set HOME, XDG_CACHE_HOME or ESTAFETTE_CACHE")]
    NoCacheDir,
}

/// Every problem is reported at once.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// Collects problems instead of stopping at the first.
#[derive(Debug, Default)]
struct Problems(Vec<ConfigError>);

impl Problems {
    fn check(&mut self, ok: bool, flag: &'static str, problem: impl FnOnce() -> String) {
        if !ok {
            self.0.push(ConfigError::Invalid { flag, problem: problem() });
        }
    }

    fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|e| self.0.push(e)).ok()
    }

    fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.0)),
        }
    }
}

#[cfg(test)]
mod tests;
