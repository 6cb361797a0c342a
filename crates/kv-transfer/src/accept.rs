//! Who may open a connection to the receiver.

use crate::HandoffError;
use crate::message::Message;
use crate::receiver::Shared;
use crate::same_host::check_peer;
use crate::serve::{drain, serve};
use crate::stream::Stream;
use estafette_security::{HandshakeError, Tls, speaks_tls};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Connections at once that have not said yet what they speak; more are closed.
const OPENING_MAX: usize = 4096;
/// How long a refused sender may take to read why.
const GOODBYE: Duration = Duration::from_secs(1);

/// What senders over TCP go through.
#[derive(Debug)]
struct Gate {
    tls: Option<Tls>,
    opening: Semaphore,
}

/// Takes in senders over TCP until the receiver closes.
pub(crate) async fn accept_tcp(
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    mut closed: watch::Receiver<()>,
) {
    let gate = Arc::new(Gate { tls, opening: Semaphore::new(OPENING_MAX) });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve_tcp(stream, gate.clone(), shared.clone(), closed.clone()));
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// Takes in senders of this host until the receiver closes.
pub(crate) async fn accept_unix(
    listener: UnixListener,
    shared: Arc<Shared>,
    mut closed: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve_unix(stream, shared.clone(), closed.clone()));
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// Accepting fails when descriptors run out; trying again at once would spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a hand-off connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Serves one sender over TCP, once it is known to be ours.
async fn serve_tcp(
    stream: TcpStream,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    closed: watch::Receiver<()>,
) {
    match gate.admit(stream).await {
        Ok(stream) => serve(stream, shared, closed).await,
        Err(HandshakeError::Failed(error)) => {
            tracing::debug!(%error, "a hand-off connection broke");
        }
        Err(error) => tracing::warn!(%error, "a hand-off connection was refused"),
    }
}

/// Serves one sender of this host, if it is ours.
async fn serve_unix(stream: UnixStream, shared: Arc<Shared>, closed: watch::Receiver<()>) {
    match check_peer(&stream) {
        Ok(()) => serve(Stream::Unix(stream), shared, closed).await,
        Err(error) => tracing::warn!(%error, "a hand-off connection was refused"),
    }
}

impl Gate {
    /// The handshake, if there is to be one. A sender that does not fit is told so.
    async fn admit(&self, stream: TcpStream) -> Result<Stream, HandshakeError> {
        let _turn = self.opening.try_acquire().map_err(|_| HandshakeError::TooMany)?;
        match (&self.tls, speaks_tls(&stream).await?) {
            (Some(tls), true) => Ok(Stream::Tls(Box::new(tls.accept(stream).await?.into()))),
            (None, false) => Ok(Stream::Tcp(stream)),
            (Some(_), false) => {
                tell_why(stream).await;
                Err(HandshakeError::PlainPeer)
            }
            (None, true) => {
                // Anything but TLS tells a TLS peer what it needs to know.
                tell_why(stream).await;
                Err(HandshakeError::TlsPeer)
            }
        }
    }
}

/// Says in the protocol's own words that TLS is used on one side only; gives up silently.
async fn tell_why(stream: TcpStream) {
    let reason = HandshakeError::TlsPeer.to_string();
    let reject = Message::Reject(HandoffError::Refused(reason));
    let stream = Stream::Tcp(stream);
    drop(stream.send(&reject, &[], GOODBYE).await);
    // Closing with bytes unread would take back what was sent.
    drop(timeout(GOODBYE, drain(&stream)).await);
}
