//! Why a worker could not start, or had to stop.

use estafette_engine::LoadError;
use estafette_kernels::TierError;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// Ends the process with exit code 1.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] estafette_security::FileError),
    /// `--kernel-tier` names none, or one that this processor lacks.
    #[error("`--kernel-tier`: {0}")]
    KernelTier(#[from] TierError),
    /// `--max-model-len` is beyond what the model was made for.
    #[error("`--max-model-len`: {asked} is more than the model's {limit}")]
    ModelLen {
        /// The flag's value.
        asked: u32,
        /// The model's.
        limit: u32,
    },
    /// This backend keeps its KV where no transport can reach it.
    #[error(
        "`--backend reference` cannot hand KV over: use it without prefill workers (`--prefill 0`)"
    )]
    NoHandOff,
    /// A port is in use, or the address is not this machine's.
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen {
        /// What the address is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The receiver or sender of KV blocks could not start.
    #[error("cannot start the hand-off: {0}")]
    HandOff(String),
    /// The router does not want this worker.
    #[error("the router at {router} refused this worker: {reason}")]
    Refused {
        /// Its address.
        router: String,
        /// Its words.
        reason: String,
    },
    /// The engine's thread is gone.
    #[error("the engine stopped unexpectedly; the log above says why")]
    EngineLost,
    /// The system refused a thread or a server.
    #[error("cannot start: {0}")]
    Start(String),
}
