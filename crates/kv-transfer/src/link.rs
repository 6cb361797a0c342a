//! How the bytes of a part reach the receiver's pool: the trait every transport implements.

use crate::faults::Fault;
use crate::message::Message;
use crate::pool::Chunk;
use crate::same_host::PeerPool;
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

    /// Moves the units now and returns nothing, or returns the bytes that are to follow the header.
    ///
    /// # Errors
    /// When the receiver's pool does not take them.
    fn place(&mut self, moves: Vec<Move>) -> io::Result<Vec<Chunk>>;

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

    fn place(&mut self, moves: Vec<Move>) -> io::Result<Vec<Chunk>> {
        Ok(moves.into_iter().map(|unit| unit.from).collect())
    }
}

/// The bytes are stored in the receiver's pool before the header goes.
#[derive(Debug)]
pub(crate) struct ShmLink {
    pub(crate) pool: PeerPool,
}

impl Link for ShmLink {
    fn kind(&self) -> &'static str {
        "shm"
    }

    fn place(&mut self, moves: Vec<Move>) -> io::Result<Vec<Chunk>> {
        for unit in moves {
            self.pool.store(unit.from.bytes(), unit.to)?;
        }
        Ok(Vec::new())
    }
}
