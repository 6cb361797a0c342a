//! The decode worker: takes KV in, batches continuously, streams tokens; prefills for itself when asked to.
//!
//! It owns the memory that hand-offs write to. Blocks for a whole prompt are reserved when the prefill worker
//! asks for a grant, not while the prompt waits there. When all blocks are in and verified, the sequence joins
//! the running batch; when they do not come, the prompt is computed here.
#![forbid(unsafe_code)]

mod receive;
mod socket_dir;

use estafette_config::WorkerSettings;
use estafette_worker::WorkerError;
use tokio::sync::watch;

/// Runs a decode worker until `stop` turns true and what runs has ended.
///
/// # Errors
/// When it cannot start, the router refuses it, or the engine breaks.
pub async fn run(settings: WorkerSettings, stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
    estafette_worker::run(settings, stop, receive::build).await
}
