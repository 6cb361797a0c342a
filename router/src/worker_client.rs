//! The router's connection to one worker, and one leg of a request on it.

use crate::error::RequestError;
use estafette_proto::v1::{self, run_event, worker_client::WorkerClient};
use estafette_security::Tls;
use estafette_types::ErrorCode;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker that does not answer a ping for this long is gone, even when its connection looks open.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Bytes of a connection's legs that may be unread: all that HTTP/2 allows. Each leg is bounded by the length of its answer;
/// a smaller window would let one client that does not read hold up the legs of all others.
const WINDOW: u32 = i32::MAX as u32;
/// A worker must accept or refuse a leg within this time.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(15);
/// After a cancel the last event comes after the step that runs.
const LAST_EVENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel to the gRPC services at `address`; it connects when it is first used.
///
/// # Errors
/// When the address is none.
pub(crate) fn channel(
    address: &str,
    tls: Option<&Tls>,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW)
        .tcp_nodelay(true);
    Ok(estafette_security::channel(&endpoint, tls))
}

/// One leg of a request, running on a worker. Dropping it cancels the leg; [`Leg::cancel`] also waits for the count of
/// what was done.
#[derive(Debug)]
pub(crate) struct Leg {
    input: mpsc::Sender<v1::RunInput>,
    events: Streaming<v1::RunEvent>,
}

/// What a leg says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LegEvent {
    Token(v1::Token),
    /// Nothing follows.
    Finished(v1::Finished),
}

impl Leg {
    /// Starts a leg.
    ///
    /// # Errors
    /// When the worker refuses it or cannot be reached.
    pub(crate) async fn start(channel: Channel, start: v1::RunStart) -> Result<Self, RequestError> {
        // `start` and one `cancel`: sending never waits.
        let (input, inputs) = mpsc::channel(2);
        let first = v1::RunInput { input: Some(v1::run_input::Input::Start(start)) };
        let closed = |_| RequestError::new(ErrorCode::Internal, "a stream closed before it began");
        input.try_send(first).map_err(closed)?;
        let mut client = WorkerClient::new(channel);
        let answer = client.run(ReceiverStream::new(inputs));
        let response = tokio::time::timeout(ACCEPT_TIMEOUT, answer)
            .await
            .map_err(|_| RequestError::new(ErrorCode::WorkerLost, "the worker did not answer"))?
            .map_err(|status| RequestError::from_worker(&status))?;
        Ok(Self { input, events: response.into_inner() })
    }

    /// The next event. The caller brings the deadline.
    ///
    /// # Errors
    /// What the worker said, or that it is gone.
    pub(crate) async fn next(&mut self) -> Result<LegEvent, RequestError> {
        let event = self.events.message().await.map_err(|s| RequestError::from_worker(&s))?;
        match event.and_then(|event| event.event) {
            Some(run_event::Event::Token(token)) => Ok(LegEvent::Token(token)),
            Some(run_event::Event::Finished(finished)) => Ok(LegEvent::Finished(finished)),
            None => Err(RequestError::new(
                ErrorCode::WorkerLost,
                "the worker's stream ended before the answer did",
            )),
        }
    }

    /// Ends the leg early; what the worker had done for it, unless it is gone.
    pub(crate) async fn cancel(mut self) -> Option<v1::Finished> {
        let cancel = v1::RunInput { input: Some(v1::run_input::Input::Cancel(v1::Cancel {})) };
        // A closed input means the same to the worker.
        drop(self.input.try_send(cancel));
        let last = async {
            loop {
                match self.next().await {
                    Ok(LegEvent::Token(_)) => {}
                    Ok(LegEvent::Finished(finished)) => return Some(finished),
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(LAST_EVENT_TIMEOUT, last).await.ok().flatten()
    }
}
