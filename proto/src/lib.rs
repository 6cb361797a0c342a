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

pub use convert::{InvalidMessage, hashes_from_bytes, hashes_to_bytes};

/// The file descriptor set, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/estafette.bin"));

/// The gRPC metadata key that holds an [`ErrorCode`](estafette_types::ErrorCode)'s text.
pub const ERROR_CODE_KEY: &str = "estafette-code";
