//! `estafette.v1.Operations`: what operators do to a running cluster.

use crate::cluster::{Cluster, Named};
use estafette_proto::v1::{self, worker_client::WorkerClient};
use estafette_types::WorkerId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

/// A worker must say within this time that it drains.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// When its grace is over it must be gone within this time.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer grace than this means the same.
const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Serves `Operations`.
#[derive(Clone, Debug)]
pub(super) struct OperationsService {
    pub(super) cluster: Arc<Cluster>,
}

#[tonic::async_trait]
impl v1::operations_server::Operations for OperationsService {
    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerReply>, Status> {
        let v1::DrainWorkerRequest { worker_id, grace_ms } = request.into_inner();
        let grace = Duration::from_millis(grace_ms).min(GRACE_MAX);
        let Named { worker, channel, lost } =
            self.cluster.named(&WorkerId(worker_id)).map_err(|unknown| unknown.to_status())?;
        let began = Instant::now();
        tracing::info!(worker = %worker, grace_ms, "a worker is told to leave");
        let wish = v1::DrainRequest { grace_ms: grace.as_millis() as u64 };
        timeout(TELL_TIMEOUT, WorkerClient::new(channel).drain(wish)).await.map_err(|_| {
            Status::unavailable(format!("`{}` does not answer, so it was not told", worker.id))
        })??;
        timeout(grace + GOODBYE_TIMEOUT, lost.left()).await.map_err(|_| {
            let words = format!("`{}` was told to leave but is still there", worker.id);
            Status::deadline_exceeded(words)
        })?;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(v1::DrainWorkerReply { took_ms }))
    }
}
