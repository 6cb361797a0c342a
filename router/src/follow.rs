//! Follows one worker's state stream: snapshot, then deltas without a gap. After any break the worker is not chosen until
//! a fresh snapshot is complete.
//!
//! A worker says each second that it is there, and for how long its engine has been at what it does now. One that is silent,
//! or whose engine takes much longer than its longest step should, is lost although its connections are open: whoever waits
//! for it is told, and it starts anew with its next snapshot.

use crate::cluster::{Cluster, WorkerKey};
use crate::patience::heard;
use estafette_proto::v1::worker_state_client::WorkerStateClient;
use estafette_proto::v1::{self, state_update::Body};
use estafette_proto::{InvalidMessage, hashes_from_bytes};
use estafette_types::{BlockHash, LoadRecord};
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);
/// Attempts in a row that fail before the worker is taken for dead although its lease goes on.
const FAILURES_MAX: u32 = 20;

/// Follows `worker` until it cannot be followed any more; why.
pub(crate) async fn follow(cluster: &Cluster, worker: &WorkerKey) -> String {
    let Some(channel) = cluster.state_channel(worker) else { return "it is not there".into() };
    let mut delay = RETRY_DELAY_MIN;
    let mut failures = 0;
    loop {
        let mut stream = StateStream::default();
        let ended = stream.run(cluster, worker, channel.clone()).await;
        if ended.means_lost() {
            if stream.synced {
                tracing::warn!(worker = %worker, why = %ended, "a worker is taken for lost");
            }
            cluster.lost(worker);
        }
        cluster.unsynced(worker);
        if stream.synced {
            (delay, failures) = (RETRY_DELAY_MIN, 0);
        }
        failures += 1;
        tracing::debug!(worker = %worker, why = %ended, "the state stream ended");
        if failures >= FAILURES_MAX {
            return format!("its state stream fails: {ended}");
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

/// Why a state stream was given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error("a message breaks the contract: {0}")]
    Invalid(#[from] InvalidMessage),
    #[error("{0}")]
    Stream(&'static str),
    #[error("nothing was heard of it for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    #[error("its engine has been at one thing for {:.1} s", .0.as_secs_f64())]
    Hung(Duration),
}

impl Broken {
    /// The worker does nothing any more, whatever its connections look like.
    fn means_lost(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Hung(_))
    }
}

/// Where one stream is.
#[derive(Debug, Default)]
struct StateStream {
    next_seq: u64,
    snapshot: Vec<BlockHash>,
    synced: bool,
}

impl StateStream {
    async fn run(&mut self, cluster: &Cluster, worker: &WorkerKey, channel: Channel) -> Broken {
        match self.try_run(cluster, worker, channel).await {
            Ok(()) => Broken::Stream("it was closed"),
            Err(broken) => broken,
        }
    }

    async fn try_run(
        &mut self,
        cluster: &Cluster,
        worker: &WorkerKey,
        channel: Channel,
    ) -> Result<(), Broken> {
        let mut client = WorkerStateClient::new(channel);
        let patience = cluster.worker_timeout();
        let silent = || Broken::Silent(patience);
        let subscribe = client.subscribe(v1::SubscribeRequest {});
        let mut updates = heard(subscribe, patience).await.ok_or_else(silent)??.into_inner();
        loop {
            let update = heard(updates.message(), patience).await.ok_or_else(silent)??;
            let Some(update) = update else { return Ok(()) };
            self.check(worker, &update)?;
            self.apply(cluster, worker, update.body)?;
        }
    }

    fn check(&mut self, worker: &WorkerKey, update: &v1::StateUpdate) -> Result<(), Broken> {
        if update.incarnation != worker.incarnation.0 {
            return Err(Broken::Stream("another incarnation answers at its address"));
        }
        if update.seq != self.next_seq {
            return Err(Broken::Stream("a message is missing"));
        }
        self.next_seq += 1;
        Ok(())
    }

    fn apply(
        &mut self,
        cluster: &Cluster,
        worker: &WorkerKey,
        body: Option<Body>,
    ) -> Result<(), Broken> {
        match body {
            Some(Body::Snapshot(chunk)) if !self.synced => {
                self.snapshot.extend(hashes_from_bytes(&chunk.block_hashes)?);
                if chunk.last {
                    let load = LoadRecord::from(chunk.load.unwrap_or_default());
                    cluster.snapshot(
                        worker,
                        &std::mem::take(&mut self.snapshot),
                        load,
                        chunk.draining,
                    );
                    self.synced = true;
                }
                Ok(())
            }
            Some(Body::Delta(delta)) if self.synced => {
                let events = delta.events()?;
                let load = LoadRecord::from(delta.load.unwrap_or_default());
                cluster.delta(worker, &events, load, delta.draining);
                Ok(())
            }
            Some(Body::Tick(tick)) => {
                let still = Duration::from_millis(tick.still_ms.into());
                if still > cluster.longest_stillness(worker) {
                    return Err(Broken::Hung(still));
                }
                Ok(())
            }
            Some(Body::Snapshot(_)) => Err(Broken::Stream("a second snapshot")),
            Some(Body::Delta(_)) => Err(Broken::Stream("a delta before the snapshot")),
            None => Err(Broken::Stream("an update without content")),
        }
    }
}

#[cfg(test)]
mod tests;
