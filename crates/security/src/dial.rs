//! A client's channel to a gRPC server of the cluster.

use crate::error::explained;
use crate::{HandshakeError, Tls};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A channel that connects when it is first used. The endpoint's address is `http://` with TLS too.
pub fn channel(endpoint: &Endpoint, tls: Option<&Tls>) -> Channel {
    match tls.cloned() {
        None => endpoint.connect_lazy(),
        Some(tls) => {
            let dial = service_fn(move |address| dial(tls.clone(), address));
            endpoint.connect_with_connector_lazy(dial)
        }
    }
}

/// A channel that is connected.
///
/// # Errors
/// When it cannot be; [`causes`] says why.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Option<&Tls>,
) -> Result<Channel, tonic::transport::Error> {
    match tls.cloned() {
        None => endpoint.connect().await,
        Some(tls) => {
            let dial = service_fn(move |address| dial(tls.clone(), address));
            endpoint.connect_with_connector(dial).await
        }
    }
}

/// The endpoint brings the deadline.
async fn dial(tls: Tls, address: Uri) -> Result<TokioIo<Dialed>, HandshakeError> {
    let failed = |error: io::Error| HandshakeError::from(&error);
    let host = address.authority().map_or("", |authority| authority.as_str());
    let stream = TcpStream::connect(host).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(TokioIo::new(Dialed(tls.connect(stream).await?)))
}

/// Whether the two sides do not get on, rather than that one of them is not there.
pub fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<HandshakeError>() {
            return !matches!(error, HandshakeError::Failed(_) | HandshakeError::Late);
        }
        next = cause.source();
    }
    false
}

/// Whether the other side wants TLS of us, and said so.
pub fn wants_tls(error: &dyn Error) -> bool {
    causes(error).contains(&HandshakeError::TlsPeer.to_string())
}

/// Why a call failed, with what the transport knows of it.
pub fn reason(status: &Status) -> String {
    match status.source() {
        _ if wants_tls(status) => HandshakeError::TlsPeer.to_string(),
        Some(cause) => format!("{}: {}", status.message(), causes(cause)),
        None => status.message().to_owned(),
    }
}

/// What went wrong, from the outermost words to the innermost.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// The client's end of a connection, whose errors say in words what they mean.
struct Dialed(client::TlsStream<TcpStream>);

impl AsyncRead for Dialed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf).map_err(explained)
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
