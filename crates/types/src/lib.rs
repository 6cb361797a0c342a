//! The vocabulary of Estafette: identifiers, block hashes, sampling parameters, error codes, units.
//!
//! No I/O, no async and no workspace dependency: every other crate may use this one.
#![forbid(unsafe_code)]

mod error_code;
mod hash;
mod id;
mod rng;
mod sampling;
mod tls_files;
mod units;
mod usage;
mod worker_state;

pub use error_code::ErrorCode;
pub use hash::{BlockHash, HashSeed, block_hashes, name_hash};
pub use id::{BlockId, Incarnation, RequestId, SequenceId, TokenId, TransferId, WorkerId};
pub use rng::{SplitMix64, unit_f32};
pub use sampling::{
    FinishReason, InvalidSampling, Limits, SamplingParams, TokenLogprob, TopLogprob,
};
pub use tls_files::TlsFiles;
pub use units::{ByteSize, InvalidUnit, parse_duration};
pub use usage::Usage;
pub use worker_state::{KvEvent, LoadRecord, Role};
