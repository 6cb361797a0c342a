//! How the bytes of a part reach the receiver's pool: the trait every transport implements.

use crate::faults::Fault;
use crate::message::Message;
use crate::pool::{Chunk, write};
use estafette_kernels::{KvMemory, copy_with_checksum};
use std::io;
use std::ops::Range;

/// One unit to move.
#[derive(Debug)]
pub(crate) struct Move {
    /// Here.
    pub(crate) from: Chunk,
    /// There: bytes of the receiver's pool.
    pub(crate) to: Range<usize>,
}

/// What [`Link::place`] has done with each unit.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// Of each unit, as it was read here.
    pub(crate) checksums: Vec<u64>,
    /// The bytes that are to follow the header, when they have not moved yet.
    pub(crate) follow: Vec<Chunk>,
}

/// What is to become of a message. Real transports let every message through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    Fault(Fault),
}

/// A way into the receiver's pool. UCX and others come in here.
pub(crate) trait Link: Send {
    /// The word used in logs.
    fn kind(&self) -> &'static str;

    /// Moves the units now, or says which bytes are to follow the header.
    ///
    /// # Errors
    /// When the receiver's pool does not take them.
    fn place(&mut self, moves: Vec<Move>) -> io::Result<Placed>;

    /// Nothing has been moved for a while: what is only needed for moving can be let go.
    fn rest(&mut self) {}

    /// Asked before each message is sent; for fault injection.
    fn verdict(&mut self, _message: &Message) -> Verdict {
        Verdict::Send
    }

    /// Asked before each message of the receiver is taken in; for fault injection.
    fn hears(&mut self, _message: &Message) -> Verdict {
        Verdict::Send
    }
}

/// The bytes follow the header; the receiver reads them into their place.
#[derive(Debug)]
pub(crate) struct TcpLink;

impl Link for TcpLink {
    fn kind(&self) -> &'static str {
        "tcp"
    }

    fn place(&mut self, moves: Vec<Move>) -> io::Result<Placed> {
        let checksums = moves.iter().map(|unit| unit.from.checksum()).collect();
        Ok(Placed { checksums, follow: moves.into_iter().map(|unit| unit.from).collect() })
    }
}

/// The bytes are stored in the receiver's pool before the header goes.
#[derive(Debug)]
pub(crate) struct ShmLink {
    /// The receiver's pool, mapped here.
    pub(crate) pool: KvMemory,
}

impl Link for ShmLink {
    fn kind(&self) -> &'static str {
        "shm"
    }

    fn place(&mut self, moves: Vec<Move>) -> io::Result<Placed> {
        let store = |unit: Move| {
            let from = unit.from.bytes();
            // Short only for a unit that leaves its pool, which no layout has.
            let fits = unit.to.len() == from.len();
            let store = |to: &mut [u8]| copy_with_checksum(from, to);
            fits.then(|| write(&self.pool, unit.to, store)).flatten()
        };
        let checksums: Option<Vec<u64>> = moves.into_iter().map(store).collect();
        let checksums = checksums.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Placed { checksums, follow: Vec::new() })
    }

    fn rest(&mut self) {
        if let Err(error) = self.pool.rest() {
            tracing::debug!(%error, "keeping a peer's pages");
        }
    }
}
