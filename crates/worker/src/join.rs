//! Keeps the worker known to its router: joins, renews the lease, comes back after a break.

use crate::identity::Identity;
use estafette_proto::v1::{self, membership_client::MembershipClient};
use estafette_security::{Tls, causes, connect, is_refusal, reason, wants_tls};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
/// A router that does not answer a ping for this long is gone, even when its connection looks open.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The router's first word must come within this time.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Joins `router` again and again until `leave` turns true.
///
/// # Errors
/// Only a refusal that no retry can mend: the router serves another model, another worker has this one's name.
pub(crate) async fn keep_joined(
    identity: Arc<Identity>,
    router: String,
    tls: Option<Tls>,
    mut leave: watch::Receiver<bool>,
) -> Result<(), Status> {
    let mut delay = RETRY_DELAY_MIN;
    let mut told = String::new();
    loop {
        let ended = tokio::select! {
            ended = join_once(&identity, &router, tls.as_ref(), &mut delay) => ended,
            _ = leave.wait_for(|leave| *leave) => return Ok(()),
        };
        if let Err(status) = ended {
            if wants_tls(&status) {
                return Err(Status::failed_precondition(reason(&status)));
            }
            let refused = [Code::FailedPrecondition, Code::InvalidArgument, Code::AlreadyExists];
            if refused.contains(&status.code()) {
                return Err(status);
            }
            tell(&router, &status, &mut told);
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => delay = (delay * 2).min(RETRY_DELAY_MAX),
            _ = leave.wait_for(|leave| *leave) => return Ok(()),
        }
    }
}

/// Says once what keeps the worker away. That the router is not there yet is no news.
fn tell(router: &str, status: &Status, told: &mut String) {
    let error = reason(status);
    let quiet = [Code::Unavailable, Code::Cancelled].contains(&status.code());
    if quiet || error == *told {
        tracing::debug!(%router, %error, "not joined, trying again");
    } else {
        tracing::warn!(%router, %error, "not joined, trying again");
    }
    *told = error;
}

fn unreachable(error: &tonic::transport::Error) -> Status {
    let text = format!("cannot connect: {}", causes(error));
    if is_refusal(error) { Status::unauthenticated(text) } else { Status::unavailable(text) }
}

/// One membership, from the first heartbeat to the break of the stream.
async fn join_once(
    identity: &Identity,
    router: &str,
    tls: Option<&Tls>,
    delay: &mut Duration,
) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{router}"))
        .map_err(|e| Status::invalid_argument(format!("`{router}` is no address: {e}")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .tcp_nodelay(true);
    let channel = connect(&endpoint, tls).await.map_err(|error| unreachable(&error))?;
    let (heartbeats, outgoing) = mpsc::channel(2);
    let gone = |_| Status::unavailable("the router closed the stream");
    heartbeats.send(v1::Heartbeat { info: Some(identity.to_wire()) }).await.map_err(gone)?;
    let joining = async {
        let mut leases =
            MembershipClient::new(channel).join(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = leases.message().await?;
        Ok::<_, Status>((leases, first))
    };
    let (mut leases, first) = tokio::time::timeout(LEASE_TIMEOUT, joining)
        .await
        .map_err(|_| Status::deadline_exceeded("the router gave no lease in time"))??;
    let lease = first.ok_or_else(|| Status::unavailable("the router closed the stream"))?;
    tracing::info!(%router, worker = %identity.id, "joined");
    *delay = RETRY_DELAY_MIN;
    // Three chances within one lease.
    let mut beat =
        tokio::time::interval(Duration::from_millis(u64::from(lease.ttl_ms / 3).max(10)));
    loop {
        tokio::select! {
            _ = beat.tick() => heartbeats.send(v1::Heartbeat::default()).await.map_err(gone)?,
            lease = leases.message() => if lease?.is_none() {
                return Err(Status::unavailable("the router closed the stream"));
            },
        }
    }
}
