//! Identifiers. Two integers of different meaning never share a type.

use std::fmt;

/// An entry of the model's vocabulary.
pub type TokenId = u32;

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);
    };
}

integer_id!(
    /// A block of the KV pool of one worker: `0..num_blocks`.
    BlockId,
    u32
);
integer_id!(
    /// A request inside one engine; unique for the life of the process.
    SequenceId,
    u64
);
integer_id!(
    /// One start of a worker process: drawn at random when it starts, so that nothing known about
    /// an earlier process with the same name is trusted.
    Incarnation,
    u64
);
integer_id!(
    /// One choice of the answers to a client's request; minted once, by the router.
    RequestId,
    u128
);
integer_id!(
    /// One hand-off from a prefill worker to a decode worker; minted once, by the router.
    TransferId,
    u128
);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl RequestId {
    /// Big-endian bytes, as sent on the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id in `bytes`, or `None` when there are not exactly 16.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl TransferId {
    /// Big-endian bytes, as sent on the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id in `bytes`, or `None` when there are not exactly 16.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// The name of a worker, as the operator sees it. An address is not a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
