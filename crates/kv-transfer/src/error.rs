//! Why a hand-off failed; the same type on both sides and on the wire.

use estafette_types::ErrorCode;
use thiserror::Error;

/// Why a hand-off did not deliver every block that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandoffError {
    /// The two pools do not hold the same kind of blocks.
    #[error(
        "the workers' KV layouts differ in `{field}`: serve both pools with one build, model and settings"
    )]
    LayoutMismatch {
        /// The first field that differs.
        field: String,
    },
    /// The peer is another process than the one that was meant.
    #[error("the worker was restarted since the hand-off was planned")]
    StalePeer,
    /// The receiver does not want the blocks.
    #[error("the decode worker refused the hand-off: {0}")]
    Refused(String),
    /// A deadline passed.
    #[error("the hand-off ran into its deadline")]
    Expired,
    /// Bytes arrived that are not those that were sent.
    #[error("the checksum of block {block}, layer group {group} is wrong")]
    ChecksumMismatch {
        /// Logical block of the prompt.
        block: u32,
        /// Layer group.
        group: u32,
    },
    /// The connection broke or could not be made; how.
    #[error("the connection to the other worker is gone: {0}")]
    PeerGone(String),
    /// The peer broke the protocol.
    #[error("the other worker broke the hand-off protocol: {0}")]
    Protocol(String),
    /// One side gave up.
    #[error("the hand-off was aborted")]
    Aborted,
    /// The receiver has no room.
    #[error("the decode worker has no free blocks for the hand-off")]
    OutOfBlocks,
}

impl HandoffError {
    /// The stable code that clients see.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::DeadlineExceeded,
            Self::Aborted => ErrorCode::Cancelled,
            Self::LayoutMismatch { .. }
            | Self::StalePeer
            | Self::Refused(_)
            | Self::ChecksumMismatch { .. }
            | Self::PeerGone(_)
            | Self::Protocol(_)
            | Self::OutOfBlocks => ErrorCode::HandoffFailed,
        }
    }

    pub(crate) fn gone(how: impl std::fmt::Display) -> Self {
        Self::PeerGone(how.to_string())
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}
