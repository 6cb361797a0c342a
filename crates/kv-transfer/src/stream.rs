//! Frames over TCP, with TLS or without, and over Unix sockets. Reading and writing go on at the same time through `&Stream`.

use crate::HandoffError;
use crate::message::Message;
use crate::pool::Chunk;
use crate::same_host::receive_fd;
use crate::tls_socket::TlsSocket;
use crate::wire::{decode, encode, header_len};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Slices of one vectored write.
const SLICES_MAX: usize = 64;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsSocket>),
    Unix(UnixStream),
}

impl Stream {
    /// Whether the peer stores into the pool by itself; else the bytes of a part follow its header.
    pub(crate) fn is_one_sided(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Tls(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Reads what is there; `WouldBlock` when nothing is, an error at the end of the stream.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(into),
            Self::Tls(stream) => stream.try_read(into),
            Self::Unix(stream) => stream.try_read(into),
        };
        match read {
            Ok(0) if !into.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        }
    }

    /// Receives a descriptor; only Unix sockets carry one.
    pub(crate) async fn receive_fd(&self) -> Result<OwnedFd, HandoffError> {
        match self {
            Self::Unix(unix) => receive_fd(unix).await,
            Self::Tcp(_) | Self::Tls(_) => Err(HandoffError::protocol("a descriptor over TCP")),
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Tls(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    /// What was written is on its way when this returns.
    async fn flush(&self) -> io::Result<()> {
        let Self::Tls(stream) = self else { return Ok(()) };
        loop {
            match stream.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                flushed => return flushed,
            }
        }
    }

    pub(crate) async fn read_exact(&self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.try_read(&mut into[filled..]) {
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a frame and what follows it, with as few copies and calls as the kernel allows.
    async fn write_all(&self, header: &[u8], chunks: &[Chunk]) -> io::Result<()> {
        let parts: Vec<&[u8]> =
            std::iter::once(header).chain(chunks.iter().map(Chunk::bytes)).collect();
        let (mut index, mut offset) = (0, 0);
        while index < parts.len() {
            let first = IoSlice::new(&parts[index][offset..]);
            let rest = parts[index + 1..].iter().map(|part| IoSlice::new(part));
            let slices: Vec<_> = std::iter::once(first).chain(rest).take(SLICES_MAX).collect();
            match self.try_write(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => offset += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
            while index < parts.len() && offset >= parts[index].len() {
                offset -= parts[index].len();
                index += 1;
            }
        }
        self.flush().await
    }

    /// Sends a message and the bytes that belong to it.
    ///
    /// # Errors
    /// [`HandoffError::PeerGone`] when the peer is, or takes longer than `limit`.
    pub(crate) async fn send(
        &self,
        message: &Message,
        chunks: &[Chunk],
        limit: Duration,
    ) -> Result<(), HandoffError> {
        self.send_frame(&encode(message), chunks, limit).await
    }

    /// The same with a frame that is encoded already.
    pub(crate) async fn send_frame(
        &self,
        frame: &[u8],
        chunks: &[Chunk],
        limit: Duration,
    ) -> Result<(), HandoffError> {
        match timeout(limit, self.write_all(frame, chunks)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(HandoffError::gone(error)),
            Err(_) => Err(HandoffError::gone("it does not read")),
        }
    }

    /// Receives a message: waits without a limit for its first byte (an idle connection is fine), then at
    /// most `limit`.
    ///
    /// # Errors
    /// [`HandoffError::PeerGone`] at the end of the stream, [`HandoffError::Protocol`] for anything that is
    /// not a message.
    pub(crate) async fn receive(&self, limit: Duration) -> Result<Message, HandoffError> {
        let mut prefix = [0; 4];
        self.read_exact(&mut prefix[..1]).await.map_err(HandoffError::gone)?;
        let frame = async {
            self.read_exact(&mut prefix[1..]).await.map_err(HandoffError::gone)?;
            let mut header = vec![0; header_len(prefix)?];
            self.read_exact(&mut header).await.map_err(HandoffError::gone)?;
            decode(&header)
        };
        timeout(limit, frame)
            .await
            .unwrap_or_else(|_| Err(HandoffError::gone("it stopped within a message")))
    }
}
