//! A client of a worker's state stream.

use crate::PATIENCE;
use crate::worker::TestWorker;
use estafette_proto::hashes_from_bytes;
use estafette_proto::v1::{self, state_update, worker_state_client::WorkerStateClient};
use estafette_types::{BlockHash, KvEvent, LoadRecord};
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Streaming;

/// What the stream has said so far.
#[derive(Debug)]
pub struct StateView {
    updates: Streaming<v1::StateUpdate>,
    next_seq: u64,
    incarnation: u64,
    /// Blocks that can be shared.
    pub hashes: BTreeSet<BlockHash>,
    /// The last load record.
    pub load: LoadRecord,
    /// Whether the worker leaves.
    pub draining: bool,
    complete: bool,
}

impl StateView {
    /// Subscribes and takes the whole snapshot.
    pub async fn subscribe(worker: &TestWorker) -> Self {
        let mut client = WorkerStateClient::new(worker.channel.clone());
        let subscribed = client.subscribe(v1::SubscribeRequest {}).await.expect("subscribed");
        let mut view = Self {
            updates: subscribed.into_inner(),
            next_seq: 0,
            incarnation: worker.info.incarnation,
            hashes: BTreeSet::new(),
            load: LoadRecord::default(),
            draining: false,
            complete: false,
        };
        while !view.complete {
            assert!(view.next().await, "a whole snapshot");
        }
        view
    }

    /// Takes one update; false at the end of the stream.
    pub async fn next(&mut self) -> bool {
        let update = tokio::time::timeout(PATIENCE, self.updates.message()).await;
        let Ok(Some(update)) = update.expect("an update in time") else { return false };
        assert_eq!(update.seq, self.next_seq, "no gap");
        assert_eq!(update.incarnation, self.incarnation);
        self.next_seq += 1;
        match update.body.expect("a body") {
            state_update::Body::Snapshot(chunk) => self.take_chunk(&chunk),
            state_update::Body::Delta(delta) => self.take_delta(&delta),
            state_update::Body::Tick(_) => {}
        }
        true
    }

    fn take_chunk(&mut self, chunk: &v1::SnapshotChunk) {
        assert!(!self.complete, "one snapshot");
        self.hashes.extend(hashes_from_bytes(&chunk.block_hashes).expect("hashes"));
        self.complete = chunk.last;
        self.take_load(chunk.load, chunk.draining);
    }

    /// A change must be one: what is stored was not there, what is removed was.
    fn take_delta(&mut self, delta: &v1::Delta) {
        assert!(self.complete, "the snapshot first");
        for event in delta.events().expect("events") {
            match event {
                KvEvent::Stored(hash) => assert!(self.hashes.insert(hash), "stored twice"),
                KvEvent::Removed(hash) => assert!(self.hashes.remove(&hash), "it was not there"),
                KvEvent::Cleared => self.hashes.clear(),
            }
        }
        self.take_load(delta.load, delta.draining);
    }

    fn take_load(&mut self, load: Option<v1::Load>, draining: bool) {
        self.load = load.map(LoadRecord::from).expect("a load record");
        self.draining = draining;
    }

    /// Takes updates until `wanted`; panics when that does not come.
    pub async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            assert!(self.next().await, "the stream ended before: {:?}", self.load);
        }
    }

    /// Waits until nothing waits or runs and every block is free or cached.
    pub async fn until_idle(&mut self) {
        self.until(|view| {
            let load = &view.load;
            load.sequences() == 0 && load.free_blocks == load.total_blocks
        })
        .await;
    }

    /// Takes what has been sent already.
    pub async fn catch_up(&mut self) {
        while let Ok(more) = tokio::time::timeout(Duration::from_millis(200), self.next()).await {
            if !more {
                return;
            }
        }
    }
}

/// Waits until `worker` is idle; its state then.
pub async fn idle_state(worker: &TestWorker) -> StateView {
    let mut view = StateView::subscribe(worker).await;
    view.until_idle().await;
    view
}
