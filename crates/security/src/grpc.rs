//! Connections of a gRPC server: how many, who may open one, how long that may take.

use crate::stream::{Accepted, ServerStream};
use crate::tls::speaks_tls;
use crate::{HandshakeError, Tls};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// Connections that are open and not taken by the server yet.
const READY: usize = 16;
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// It must come within this time.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// It comes in one piece nearly always; else it is looked for this often.
const PREFACE_POLL: Duration = Duration::from_millis(20);
/// How long a refused client may take to read why.
const GOODBYE: Duration = Duration::from_secs(1);

/// Accepts connections until the stream is dropped, at most `connections_max` at once; more wait to be accepted. With
/// `tls` only members of the cluster get through. Must be called inside a tokio runtime.
pub fn incoming(
    listener: TcpListener,
    tls: Option<Tls>,
    connections_max: usize,
) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(READY);
    let places = Arc::new(Semaphore::new(connections_max));
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = accept_all(&listener, tls, &places, sender) => {}
            () = closed.closed() => {}
        }
    });
    ReceiverStream::new(receiver)
}

type Ready = mpsc::Sender<io::Result<Accepted>>;

async fn accept_all(
    listener: &TcpListener,
    tls: Option<Tls>,
    places: &Arc<Semaphore>,
    ready: Ready,
) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(admit(stream, tls.clone(), place, ready.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Opens one connection and hands it to the server.
async fn admit(stream: TcpStream, tls: Option<Tls>, place: OwnedSemaphorePermit, ready: Ready) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
    let opened = async {
        match tls {
            Some(tls) => open_tls(stream, &tls).await,
            None => open_plain(stream).await,
        }
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = ready.closed() => return,
    };
    match opened {
        // Fails when the server has ended.
        Ok(stream) => drop(ready.send(Ok(Accepted { stream, _place: place })).await),
        Err(HandshakeError::Failed(error)) => tracing::debug!(%peer, %error, "a connection broke"),
        Err(error) => tracing::warn!(%peer, %error, "a connection was refused"),
    }
}

async fn open_tls(stream: TcpStream, tls: &Tls) -> Result<ServerStream, HandshakeError> {
    if !speaks_tls(&stream).await? {
        tell_why(stream).await;
        return Err(HandshakeError::PlainPeer);
    }
    Ok(ServerStream::Tls(Box::new(tls.accept(stream).await?)))
}

async fn open_plain(stream: TcpStream) -> Result<ServerStream, HandshakeError> {
    if speaks_tls(&stream).await? {
        // Anything but TLS tells a TLS client what it needs to know.
        tell_why(stream).await;
        return Err(HandshakeError::TlsPeer);
    }
    let preface = timeout(PREFACE_TIMEOUT, wait_for_preface(&stream)).await;
    preface.map_err(|_| HandshakeError::Late)??;
    Ok(ServerStream::Plain(stream))
}

/// Returns when the whole preface is there, unread. The HTTP/2 library would wait for it without a limit.
async fn wait_for_preface(stream: &TcpStream) -> Result<(), HandshakeError> {
    loop {
        let mut there = [0; PREFACE.len()];
        let len = stream.peek(&mut there).await.map_err(|error| HandshakeError::from(&error))?;
        match &there[..len] {
            [] => return Err(HandshakeError::Failed("the connection was closed at once".into())),
            bytes if bytes == PREFACE => return Ok(()),
            bytes if !PREFACE.starts_with(bytes) => return Err(HandshakeError::Foreign),
            _ => sleep(PREFACE_POLL).await,
        }
    }
}

/// Says why in HTTP/2 without TLS, in a form that a client's library can show; gives up silently.
async fn tell_why(mut stream: TcpStream) {
    let goodbye = async {
        // An answer that comes before the question would only break the connection.
        sleep(GOODBYE / 8).await;
        stream.write_all(&goodbye()).await?;
        stream.shutdown().await?;
        // Closing with bytes unread would take back what was sent.
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    drop(timeout(GOODBYE, goodbye).await);
}

/// HTTP/2: empty settings, then `GOAWAY` with `INADEQUATE_SECURITY` and a text (RFC 9113, 6.8).
fn goodbye() -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    const INADEQUATE_SECURITY: u32 = 0xc;
    let text = HandshakeError::TlsPeer.to_string();
    let len = u32::try_from(8 + text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = SETTINGS.to_vec();
    bytes.extend_from_slice(&len[1..]);
    bytes.extend_from_slice(&[GOAWAY, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&0_u32.to_be_bytes());
    bytes.extend_from_slice(&INADEQUATE_SECURITY.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests;
