//! A TCP socket with TLS that can be read and written at the same time, without waiting, as the plain one can.

use estafette_security::rustls::Connection;
use estafette_security::{client, explained, server};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;

/// Bytes that may be sealed and not sent yet.
const SEALED_MAX: usize = 256 << 10;
/// Sealed bytes that are taken from the socket at once: the TLS library alone would take 4 KiB.
const READ_BYTES: usize = 64 << 10;

/// A socket after its handshake. The lock is held for one record or one write, never across an await.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    session: Mutex<Session>,
}

#[derive(Debug)]
struct Session {
    tls: Connection,
    /// What came from the socket and the library has not taken yet.
    inbound: Vec<u8>,
    taken: usize,
}

impl From<client::TlsStream<TcpStream>> for TlsSocket {
    fn from(stream: client::TlsStream<TcpStream>) -> Self {
        let (tcp, tls) = stream.into_inner();
        Self::new(tcp, tls.into())
    }
}

impl From<server::TlsStream<TcpStream>> for TlsSocket {
    fn from(stream: server::TlsStream<TcpStream>) -> Self {
        let (tcp, tls) = stream.into_inner();
        Self::new(tcp, tls.into())
    }
}

impl TlsSocket {
    fn new(tcp: TcpStream, mut tls: Connection) -> Self {
        tls.set_buffer_limit(Some(SEALED_MAX));
        let session = Session { tls, inbound: Vec::with_capacity(READ_BYTES), taken: 0 };
        Self { tcp, session: Mutex::new(session) }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads what is there, at most one record; `WouldBlock` when nothing is, 0 at the end of the stream.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut session = self.lock();
        loop {
            match session.tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end that the peer did not announce is an end all the same: nothing here means more because it came last.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            session.take_in(&self.tcp)?;
            // Answers of the protocol itself; what does not fit goes with the next write.
            match session.send(&self.tcp) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Seals and sends a part of `slices`; what is sealed and not sent goes with the next call, or [`try_flush`].
    ///
    /// [`try_flush`]: Self::try_flush
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        let mut session = self.lock();
        loop {
            let written = session.tls.writer().write_vectored(slices)?;
            match session.send(&self.tcp) {
                // All that was sealed before is gone, so there is room now.
                Ok(()) if written == 0 => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock || written == 0 => {
                    return Err(error);
                }
                Ok(()) | Err(_) => return Ok(written),
            }
        }
    }

    /// Sends what is sealed; `WouldBlock` when the socket does not take all of it.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        self.lock().send(&self.tcp)
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Gives the library more to open, from the socket if need be.
    fn take_in(&mut self, tcp: &TcpStream) -> io::Result<()> {
        if self.taken == self.inbound.len() {
            self.inbound.resize(READ_BYTES, 0);
            self.taken = 0;
            let read = tcp.try_read(&mut self.inbound);
            self.inbound.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let mut sealed = &self.inbound[self.taken..];
        self.taken += self.tls.read_tls(&mut sealed)?;
        let opened = self.tls.process_new_packets();
        opened.map_err(|error| explained(io::Error::new(ErrorKind::InvalidData, error)))?;
        Ok(())
    }

    fn send(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut Sink(tcp))?;
        }
        Ok(())
    }
}

/// The socket as the library wants it.
struct Sink<'a>(&'a TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
