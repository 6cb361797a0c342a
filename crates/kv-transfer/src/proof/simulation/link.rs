//! The bytes between two workers.

use super::plan::Micros;
use crate::HandoffError;
use crate::message::Message;
use crate::wire::{decode, header_len};
use std::collections::VecDeque;

/// One direction of a connection: in order, each piece at its time.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pieces: VecDeque<(Micros, Vec<u8>)>,
    last: Micros,
    /// The writer has closed it: the end of the stream comes behind what is on the way.
    pub(super) closed: bool,
}

impl Pipe {
    /// When `bytes` will be there, not before `at`.
    pub(super) fn write(&mut self, at: Micros, bytes: Vec<u8>) -> Micros {
        self.last = self.last.max(at);
        if !self.closed {
            self.pieces.push_back((self.last, bytes));
        }
        self.last
    }

    /// What has come by now.
    pub(super) fn read(&mut self, now: Micros) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.pieces.front().is_some_and(|(at, _)| *at <= now) {
            bytes.extend(self.pieces.pop_front().map(|(_, piece)| piece).unwrap_or_default());
        }
        bytes
    }

    /// Closes it; when its end is seen.
    pub(super) fn close(&mut self, at: Micros) -> Micros {
        self.closed = true;
        self.last = self.last.max(at);
        self.last
    }

    /// What is on the way is lost.
    pub(super) fn lose(&mut self, at: Micros) -> Micros {
        self.pieces.clear();
        self.close(at)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.closed && self.pieces.is_empty()
    }
}

/// Frames out of bytes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: VecDeque<u8>,
}

impl Reader {
    pub(super) fn add(&mut self, bytes: Vec<u8>) {
        self.bytes.extend(bytes);
    }

    /// The next whole message.
    pub(super) fn message(&mut self) -> Result<Option<Message>, HandoffError> {
        if self.bytes.len() < 4 {
            return Ok(None);
        }
        let mut prefix = [0; 4];
        prefix.iter_mut().zip(&self.bytes).for_each(|(to, from)| *to = *from);
        let len = header_len(prefix)?;
        if self.bytes.len() < 4 + len {
            return Ok(None);
        }
        self.bytes.drain(..4);
        let header: Vec<u8> = self.bytes.drain(..len).collect();
        decode(&header).map(Some)
    }

    /// At most so many bytes of what follows a message.
    pub(super) fn take(&mut self, most: usize) -> Vec<u8> {
        let len = most.min(self.bytes.len());
        self.bytes.drain(..len).collect()
    }

    /// Bytes that have come and are not used.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len()
    }
}
