//! The state stream: every subscriber gets a snapshot, then each change once.
//!
//! Snapshots and deltas are made by the engine's thread between two steps, so they cannot overlap. Nobody is
//! waited for: a subscriber whose queue is full is cut off, notices it by the end of its stream, and comes
//! back for a fresh snapshot.

use estafette_proto::{hashes_to_bytes, v1};
use estafette_types::{BlockHash, KvEvent, LoadRecord};
use tokio::sync::mpsc;
use tonic::Status;

/// Block hashes in one chunk of a snapshot: 64 KiB.
const CHUNK_HASHES: usize = 4096;

type Subscriber = mpsc::Sender<Result<v1::StateUpdate, Status>>;

/// The subscribers of one worker.
#[derive(Debug, Default)]
pub(crate) struct StatePublisher {
    subscribers: Vec<Subscriber>,
    published: Option<(LoadRecord, bool)>,
}

impl StatePublisher {
    /// Sends the snapshot and keeps the subscriber.
    pub(crate) fn subscribe(
        &mut self,
        subscriber: Subscriber,
        hashes: &[BlockHash],
        load: LoadRecord,
        draining: bool,
    ) {
        if snapshot(hashes, load, draining).into_iter().all(|chunk| send(&subscriber, chunk)) {
            self.subscribers.push(subscriber);
        }
    }

    /// Sends what changed since the last call.
    pub(crate) fn publish(&mut self, events: &[KvEvent], load: LoadRecord, draining: bool) {
        if events.is_empty() && self.published == Some((load, draining)) {
            return;
        }
        self.published = Some((load, draining));
        if self.subscribers.is_empty() {
            return;
        }
        let body = v1::state_update::Body::Delta(delta(events, load, draining));
        self.subscribers.retain(|subscriber| send(subscriber, body.clone()));
    }
}

/// Whether the subscriber is still there and keeps up.
fn send(subscriber: &Subscriber, body: v1::state_update::Body) -> bool {
    let update = v1::StateUpdate { body: Some(body), ..Default::default() };
    subscriber.try_send(Ok(update)).is_ok()
}

fn snapshot(hashes: &[BlockHash], load: LoadRecord, draining: bool) -> Vec<v1::state_update::Body> {
    let count = hashes.len().div_ceil(CHUNK_HASHES).max(1);
    (0..count)
        .map(|i| {
            let end = hashes.len().min((i + 1) * CHUNK_HASHES);
            v1::state_update::Body::Snapshot(v1::SnapshotChunk {
                block_hashes: hashes_to_bytes(&hashes[i * CHUNK_HASHES..end]),
                last: i + 1 == count,
                load: Some(load.into()),
                draining,
            })
        })
        .collect()
}

/// Events of one step name a hash once at most, so only `Cleared` has a place in the order: before the rest.
fn delta(events: &[KvEvent], load: LoadRecord, draining: bool) -> v1::Delta {
    let cleared = events.iter().rposition(|event| *event == KvEvent::Cleared);
    let after = &events[cleared.map_or(0, |i| i + 1)..];
    let mut removed = Vec::new();
    let mut stored = Vec::new();
    for event in after {
        match event {
            KvEvent::Stored(hash) => stored.push(*hash),
            KvEvent::Removed(hash) => removed.push(*hash),
            KvEvent::Cleared => {}
        }
    }
    v1::Delta {
        cleared: cleared.is_some(),
        removed: hashes_to_bytes(&removed),
        stored: hashes_to_bytes(&stored),
        load: Some(load.into()),
        draining,
    }
}

#[cfg(test)]
mod tests;
