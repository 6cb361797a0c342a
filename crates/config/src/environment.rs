//! What comes from the environment instead of flags: folders, log filter, number of cores.
#![expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]

use crate::ConfigError;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, path::PathBuf, thread};

/// Name of the default model's file inside [`model_cache_dir`].
pub(crate) const DEFAULT_MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Where downloads are kept: `ESTAFETTE_CACHE`, else `estafette` in the user's cache folder.
///
/// # Errors
/// When no variable names a folder.
pub fn cache_dir() -> Result<PathBuf, ConfigError> {
    let of = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    of("ESTAFETTE_CACHE")
        .or_else(|| of("XDG_CACHE_HOME").map(|dir| dir.join("estafette")))
        .or_else(|| of("HOME").map(|dir| dir.join(".cache/estafette")))
        .ok_or(ConfigError::NoCacheDir)
}

/// Where models are kept.
///
/// # Errors
/// When no variable names a cache folder.
pub fn model_cache_dir() -> Result<PathBuf, ConfigError> {
    Ok(cache_dir()?.join("models"))
}

/// Where processes of this machine meet: sockets live here.
pub fn runtime_dir() -> PathBuf {
    env::temp_dir()
}

/// The filter of log lines, `RUST_LOG` in the syntax of `tracing-subscriber`.
pub fn log_filter() -> Option<String> {
    env::var("RUST_LOG").ok().filter(|v| !v.is_empty())
}

/// Cores that this process may use.
pub fn available_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A seed that no other process has: the clock and the process id are enough.
pub fn process_seed() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    (nanos as u64) ^ (u64::from(std::process::id()) << 32)
}
