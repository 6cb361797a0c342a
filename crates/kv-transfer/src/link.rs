//! How the bytes of a part reach the receiver's pool: the trait every transport implements.

use crate::message::Message;
use crate::pool::{Chunk, write};
use estafette_kernels::KvMemory;
use std::{ops::Range, sync::Arc};

/// One unit to move.
#[derive(Debug)]
pub(crate) struct Move {
    /// Here.
    pub(crate) from: Chunk,
    /// There: bytes of the receiver's pool.
    pub(crate) to: Range<usize>,
}

/// What is to become of a message. Real transports always send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    Drop,
    Twice,
    Cut,
}

/// A way into the receiver's pool. UCX and others come in here.
pub(crate) trait Link: Send {
    /// The word used in logs.
    fn kind(&self) -> &'static str;

    /// Moves the units now and returns nothing, or returns the bytes that are to follow the header.
    fn place(&mut self, moves: Vec<Move>) -> Vec<Chunk>;

    /// Asked before each message is sent; for fault injection.
    fn verdict(&mut self, _message: &Message) -> Verdict {
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

    fn place(&mut self, moves: Vec<Move>) -> Vec<Chunk> {
        moves.into_iter().map(|unit| unit.from).collect()
    }
}

/// The receiver's pool is mapped here; the bytes are stored before the header goes.
#[derive(Debug)]
pub(crate) struct ShmLink {
    pub(crate) pool: Arc<KvMemory>,
}

impl Link for ShmLink {
    fn kind(&self) -> &'static str {
        "shm"
    }

    fn place(&mut self, moves: Vec<Move>) -> Vec<Chunk> {
        for unit in moves {
            let from = unit.from.bytes();
            let copied = write(&self.pool, unit.to, |to| {
                if to.len() == from.len() {
                    to.copy_from_slice(from);
                }
            });
            debug_assert!(copied.is_some(), "a grant was checked against the pool");
        }
        Vec::new()
    }
}
