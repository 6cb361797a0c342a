//! The wire contracts of Estafette, package `estafette.v1`. Generated code and the conversions to and
//! from the vocabulary of `estafette-types`; no logic.
#![forbid(unsafe_code)]

/// Package `estafette.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("estafette.v1");
}

mod convert;
#[doc(hidden)]
pub mod fuzz;

use estafette_types::ErrorCode;
use tonic::Status;

pub use convert::{InvalidMessage, hashes_from_bytes, hashes_to_bytes};

/// The file descriptor set, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/estafette.bin"));

/// The gRPC metadata key that holds an [`ErrorCode`]'s text.
pub const ERROR_CODE_KEY: &str = "estafette-code";

/// The gRPC status for `code`; the stable code travels in the metadata.
pub fn status(code: ErrorCode, message: impl Into<String>) -> Status {
    let mut status = Status::new(code.grpc_status().into(), message);
    if let Ok(value) = code.as_str().parse() {
        status.metadata_mut().insert(ERROR_CODE_KEY, value);
    }
    status
}

/// The stable code that [`status`] put into `status`; `None` for those of the transport.
pub fn error_code(status: &Status) -> Option<ErrorCode> {
    ErrorCode::parse(status.metadata().get(ERROR_CODE_KEY)?.to_str().ok()?)
}
