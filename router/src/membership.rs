//! Workers join here: `estafette.v1.Membership`.
//!
//! A worker is there as long as its stream is open and its heartbeats come. The stream's task follows the worker's state
//! stream too; both end together.

use crate::cluster::{Cluster, WorkerKey};
use crate::follow::follow;
use crate::patience::heard;
use estafette_proto::v1;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// A worker whose heartbeats stay away for this long is gone. A broken connection is noticed at once; this is for
/// machines that vanish.
const LEASE: Duration = Duration::from_secs(10);

/// Serves `Membership`.
#[derive(Clone, Debug)]
pub(crate) struct MembershipService {
    cluster: Arc<Cluster>,
    /// Turns true when the router has answered everything and leaves.
    stop: watch::Receiver<bool>,
}

impl MembershipService {
    pub(crate) fn new(cluster: Arc<Cluster>, stop: watch::Receiver<bool>) -> Self {
        Self { cluster, stop }
    }
}

#[tonic::async_trait]
impl v1::membership_server::Membership for MembershipService {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<v1::Lease, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<v1::Heartbeat>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let mut heartbeats = request.into_inner();
        let first = tokio::time::timeout(LEASE, heartbeats.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the first heartbeat did not come in time"))??;
        let info = first
            .and_then(|heartbeat| heartbeat.info)
            .ok_or_else(|| Status::invalid_argument("the first heartbeat must carry `info`"))?;
        let worker = self.cluster.join(info)?;
        tracing::info!(worker = %worker, "a worker joined");
        let (leases, outgoing) = mpsc::channel(4);
        let member = Member { cluster: Arc::clone(&self.cluster), worker };
        tokio::spawn(keep(member, heartbeats, leases, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// Takes the worker out of the cluster when it is dropped, whatever ended the membership.
struct Member {
    cluster: Arc<Cluster>,
    worker: WorkerKey,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.cluster.leave(&self.worker);
    }
}

/// One membership, until the worker is gone.
async fn keep(
    member: Member,
    heartbeats: Streaming<v1::Heartbeat>,
    leases: mpsc::Sender<Result<v1::Lease, Status>>,
    mut stop: watch::Receiver<bool>,
) {
    let why = tokio::select! {
        why = renew(&member, heartbeats, leases) => why,
        why = follow(&member.cluster, &member.worker) => why,
        _ = stop.wait_for(|stop| *stop) => "the router is leaving".to_owned(),
    };
    tracing::info!(worker = %member.worker, %why, "a worker is gone");
}

/// Answers heartbeats with leases; why that ended.
async fn renew(
    member: &Member,
    mut heartbeats: Streaming<v1::Heartbeat>,
    leases: mpsc::Sender<Result<v1::Lease, Status>>,
) -> String {
    let ttl_ms = u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX);
    loop {
        let is_member = member.cluster.is_member(&member.worker);
        let taken = || Status::already_exists("another worker has joined under its name");
        let lease = is_member.then_some(v1::Lease { ttl_ms }).ok_or_else(taken);
        // A worker that does not read its leases is as good as gone.
        let sent = tokio::time::timeout(LEASE, leases.send(lease)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return "it does not read its leases".into();
        }
        if !is_member {
            return "another one has its name".into();
        }
        match heard(heartbeats.message(), LEASE).await {
            Some(Ok(Some(_))) => {}
            Some(Ok(None)) => return "it left".into(),
            Some(Err(status)) => return format!("its connection broke: {}", status.message()),
            None => return "its lease ran out".into(),
        }
    }
}
