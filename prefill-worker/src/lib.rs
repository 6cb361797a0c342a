//! The prefill worker: runs prompts in chunks and pushes their KV to a decode worker while it still computes.
//!
//! The engine never waits for the network. It computes into its own pool and tells the pusher after each layer
//! which blocks are final; the pusher sends them when the decode worker has granted slots. The blocks of a
//! finished prompt stay allocated until the pusher has let go of them.
#![forbid(unsafe_code)]

mod push;

use estafette_config::WorkerSettings;
use estafette_worker::WorkerError;
use tokio::sync::watch;

/// Runs a prefill worker until `stop` turns true and what runs has ended.
///
/// # Errors
/// When it cannot start, the router refuses it, or the engine breaks.
pub async fn run(settings: WorkerSettings, stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
    estafette_worker::run(settings, stop, push::build).await
}
