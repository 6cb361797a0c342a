//! Log lines on standard error.

use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// Without a filter: what an operator wants to know.
const DEFAULT_FILTER: &str = "info";

/// Starts logging with `filter` in the syntax of `RUST_LOG`; a filter that cannot be read is reported and replaced by
/// the default. Calls after the first change nothing.
pub fn init_logging(filter: Option<&str>) {
    let parsed = filter.map(|text| (text, EnvFilter::try_new(text)));
    let (filter, refused) = match parsed {
        Some((_, Ok(filter))) => (filter, None),
        Some((text, Err(error))) => (EnvFilter::new(DEFAULT_FILTER), Some((text, error))),
        None => (EnvFilter::new(DEFAULT_FILTER), None),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && let Some((text, error)) = refused
    {
        tracing::warn!(filter = text, %error, "the log filter is not understood, using `info`");
    }
}
