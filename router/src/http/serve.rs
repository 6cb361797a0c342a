//! Connections: how many, how long they may be silent, how they end.

use super::patience::{Answering, Impatient, Requests};
use axum::Router;
use estafette_security::{PublicTls, ServerStream};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A client that takes nothing of what is sent for this long is cut off.
pub(crate) const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For a whole request line and headers, from their first byte.
    pub(crate) head: Duration,
    /// Without any byte of a request.
    pub(crate) idle: Duration,
    /// Bytes of a request line and its headers.
    pub(crate) head_bytes: usize,
    /// Headers of a request.
    pub(crate) headers: usize,
    /// Connections at once; more wait to be accepted.
    pub(crate) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            // Above the time for which usual clients keep idle connections, so that they seldom write into one that closes.
            idle: Duration::from_secs(90),
            head_bytes: 64 << 10,
            headers: 100,
            connections: 16_384,
        }
    }
}

/// Serves until `stop` turns true, then answers what is running. A listener that breaks is tried again.
pub(crate) async fn serve(
    routes: Router,
    listener: TcpListener,
    tls: Option<PublicTls>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_header_size(limits.head_bytes)
        .max_headers(limits.headers);
    let server = Server { builder, service: TowerToHyperService::new(routes), tls, limits };
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let (server, watcher) = (server.clone(), connections.watcher());
        tokio::spawn(async move {
            let _place = place;
            server.connection(stream, watcher).await;
        });
    }
    drop(listener);
    connections.shutdown().await;
}

#[derive(Clone)]
struct Server {
    builder: http1::Builder,
    service: TowerToHyperService<Router>,
    tls: Option<PublicTls>,
    limits: Limits,
}

impl Server {
    /// Serves one connection to its end.
    async fn connection(self, stream: TcpStream, watcher: Watcher) {
        let stream = match &self.tls {
            None => ServerStream::Plain(stream),
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => ServerStream::Tls(Box::new(stream)),
                Err(error) => return tracing::debug!(%error, "a client's handshake failed"),
            },
        };
        let requests = Requests::default();
        let stream = Impatient::new(stream, requests.clone(), self.limits.head);
        let service = service_fn(move |request| {
            let in_work = requests.begin();
            let answer = self.service.call(request);
            async move {
                Ok::<_, std::convert::Infallible>(
                    answer.await?.map(|body| Answering { body, _in_work: in_work }),
                )
            }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

/// The next connection and its place; `None` when it could not be had.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            prepare(&stream);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let limit = UNREAD_TIMEOUT.as_millis() as u32;
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, limit) {
        tracing::debug!(%error, "cannot limit how long a client may not read");
    }
}

#[cfg(test)]
mod tests;
