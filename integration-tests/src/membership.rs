//! A stand-in for the router: lets every worker join, or none.

use estafette_proto::v1::{self, membership_server::Membership};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Collects who joined.
#[derive(Clone, Debug)]
pub struct FakeRouter {
    /// host:port for `--router`.
    pub address: SocketAddr,
    joined: Arc<Mutex<Vec<v1::WorkerInfo>>>,
    changes: watch::Sender<usize>,
}

impl FakeRouter {
    /// Lets everybody join.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// Refuses everybody with these words.
    pub async fn refusing(reason: &str) -> Self {
        Self::serve(Some(Status::failed_precondition(reason))).await
    }

    async fn serve(refusal: Option<Status>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = Self { address, joined: Arc::default(), changes: watch::channel(0).0 };
        let service = Service { router: router.clone(), refusal };
        tokio::spawn(
            Server::builder()
                .add_service(v1::membership_server::MembershipServer::new(service))
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))),
        );
        router
    }

    /// Waits until `worker` joined; what it said.
    pub async fn joined(&self, worker: &str) -> v1::WorkerInfo {
        let mut changes = self.changes.subscribe();
        let find = || {
            let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
            joined.iter().find(|info| info.worker_id == worker).cloned()
        };
        let waited = tokio::time::timeout(crate::PATIENCE, changes.wait_for(|_| find().is_some()));
        drop(waited.await.expect("it joins in time").expect("self holds the sender"));
        find().expect("it was there")
    }
}

struct Service {
    router: FakeRouter,
    refusal: Option<Status>,
}

#[tonic::async_trait]
impl Membership for Service {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<v1::Lease, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<v1::Heartbeat>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let mut heartbeats = request.into_inner();
        let first = heartbeats.message().await?.and_then(|heartbeat| heartbeat.info);
        let info = first.ok_or_else(|| Status::invalid_argument("no `info`"))?;
        self.router.joined.lock().unwrap_or_else(PoisonError::into_inner).push(info);
        self.router.changes.send_modify(|changes| *changes += 1);
        let lease = v1::Lease { ttl_ms: 3000 };
        let leases =
            tokio_stream::once(Ok(lease)).chain(heartbeats.map(move |beat| beat.map(|_| lease)));
        Ok(Response::new(Box::pin(leases)))
    }
}
