//! What can go wrong: at the start of the process, and with one request.

use estafette_types::ErrorCode;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;
use tonic::{Code, Status};

/// Ends the process with exit code 1.
#[derive(Debug, Error)]
pub enum RouterError {
    /// The model file cannot be read.
    #[error(transparent)]
    File(#[from] estafette_gguf::GgufError),
    /// The model file has no tokenizer that can be used.
    #[error(transparent)]
    Tokenizer(#[from] estafette_tokenizer::TokenizerError),
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
    /// Metrics cannot be recorded.
    #[error(transparent)]
    Metrics(#[from] estafette_telemetry::ExporterError),
    /// A certificate, or the file of keys.
    #[error(transparent)]
    Security(#[from] estafette_security::FileError),
    /// A server ended by itself.
    #[error("the {what} server stopped: {reason}")]
    Server {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a request has no answer. Knows nothing of HTTP or gRPC; each turns it into its own form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub(crate) struct RequestError {
    /// The stable code.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
}

impl RequestError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None }
    }

    /// A field has an impossible value.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code: ErrorCode::InvalidRequest, message, param: Some(param.to_owned()) }
    }

    /// A field that would change the answer is not supported.
    pub(crate) fn unsupported(param: &str) -> Self {
        Self {
            code: ErrorCode::Unsupported,
            message: format!(
                "`{param}` is not supported here, and ignoring it would change the answer"
            ),
            param: Some(param.to_owned()),
        }
    }

    /// What a worker said. Statuses without a code of ours come from the transport: the worker is gone.
    pub(crate) fn from_worker(status: &Status) -> Self {
        let named = estafette_proto::error_code(status);
        let code = named.unwrap_or(match status.code() {
            Code::InvalidArgument => ErrorCode::InvalidRequest,
            _ => ErrorCode::WorkerLost,
        });
        if named.is_none() && code == ErrorCode::WorkerLost {
            tracing::debug!(status = %status.message(), "a worker's stream broke");
            return Self::new(
                code,
                "a worker was lost while it worked on this request; send it again",
            );
        }
        Self::new(code, status.message())
    }

    /// In gRPC's words; the stable code travels in the metadata.
    pub(crate) fn to_status(&self) -> Status {
        let message = match &self.param {
            Some(param) if !self.message.contains(param.as_str()) => {
                format!("{param}: {}", self.message)
            }
            _ => self.message.clone(),
        };
        estafette_proto::status(self.code, message)
    }
}
