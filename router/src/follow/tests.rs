//! Lost, repeated, reordered and restarted streams. `docs/lessons.md` lists the lessons.

use super::*;
use crate::cluster::tests::{cluster, holds, join};
use estafette_types::SplitMix64;
use std::collections::BTreeSet;

/// The worker's side: its cache, and what it says of it.
#[derive(Default)]
struct Speaker {
    held: BTreeSet<u128>,
    seq: u64,
}

impl Speaker {
    fn update(&mut self, worker: &WorkerKey, body: Body) -> v1::StateUpdate {
        self.seq += 1;
        let seq = self.seq - 1;
        let incarnation = worker.incarnation.0;
        v1::StateUpdate { seq, incarnation, body: Some(body), ..Default::default() }
    }

    /// All of it, in two parts.
    fn snapshot(&mut self, worker: &WorkerKey) -> Vec<v1::StateUpdate> {
        self.seq = 0;
        let hashes: Vec<_> = self.held.iter().map(|hash| BlockHash(*hash)).collect();
        let (first, second) = hashes.split_at(hashes.len() / 2);
        [(first, false), (second, true)]
            .map(|(hashes, last)| {
                let block_hashes = estafette_proto::hashes_to_bytes(hashes);
                let load = Some(v1::Load { total_blocks: 100, ..Default::default() });
                let chunk = v1::SnapshotChunk { block_hashes, last, load, ..Default::default() };
                self.update(worker, Body::Snapshot(chunk))
            })
            .into()
    }

    /// Stores or evicts a block.
    fn change(&mut self, worker: &WorkerKey, hash: u128) -> v1::StateUpdate {
        let load = Some(v1::Load { total_blocks: 100, ..Default::default() });
        let block = estafette_proto::hashes_to_bytes(&[BlockHash(hash)]);
        let delta = if self.held.remove(&hash) {
            v1::Delta { removed: block, load, ..Default::default() }
        } else {
            self.held.insert(hash);
            v1::Delta { stored: block, load, ..Default::default() }
        };
        self.update(worker, Body::Delta(delta))
    }
}

/// What the router believes of blocks 1 to 20: those of which it says that the worker holds them.
fn believed(cluster: &Cluster, worker: &WorkerKey) -> BTreeSet<u128> {
    (1..=20).filter(|hash| holds(cluster, worker, BlockHash(*hash))).collect()
}

fn take(
    stream: &mut StateStream,
    cluster: &Cluster,
    worker: &WorkerKey,
    update: v1::StateUpdate,
) -> Result<(), Broken> {
    stream.check(worker, &update)?;
    stream.apply(cluster, worker, update.body)
}

/// The router's belief is the worker's cache whenever the worker can be chosen, and nothing when it cannot.
#[tokio::test]
async fn after_any_fault_of_a_state_stream_nothing_is_believed_until_a_fresh_snapshot() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 100);
    let (mut rng, mut speaker, mut faults) = (SplitMix64::new(7), Speaker::default(), [0; 4]);
    for _ in 0..300 {
        let mut stream = StateStream::default();
        for update in speaker.snapshot(&worker) {
            take(&mut stream, &cluster, &worker, update).unwrap();
        }
        assert_eq!(believed(&cluster, &worker), speaker.held, "a fresh snapshot is the truth");
        assert_eq!(cluster.counts().decode, 1);
        for _ in 0..rng.below(10) {
            let update = speaker.change(&worker, 1 + u128::from(rng.below(20)));
            take(&mut stream, &cluster, &worker, update).unwrap();
            assert_eq!(believed(&cluster, &worker), speaker.held);
        }
        let fault = rng.below(4) as usize;
        faults[fault] += 1;
        let update = match fault {
            // Lost: the next one is not the one that is due.
            0 => {
                let _lost = speaker.change(&worker, 1 + u128::from(rng.below(20)));
                speaker.change(&worker, 1 + u128::from(rng.below(20)))
            }
            // Repeated.
            1 => {
                let update = speaker.change(&worker, 1 + u128::from(rng.below(20)));
                take(&mut stream, &cluster, &worker, update.clone()).unwrap();
                update
            }
            // Restarted: numbers from 0 again, which must not be taken for old ones, by another process.
            2 => {
                speaker = Speaker::default();
                let update = speaker.change(&worker, 5);
                v1::StateUpdate { incarnation: worker.incarnation.0 + 1, ..update }
            }
            // Broken: a hash of 5 bytes.
            _ => {
                let delta = v1::Delta { stored: vec![0; 5].into(), ..Default::default() };
                speaker.update(&worker, Body::Delta(delta))
            }
        };
        assert!(take(&mut stream, &cluster, &worker, update).is_err(), "fault {fault}");
        // As `follow` does after any break.
        cluster.unsynced(&worker);
        assert!(believed(&cluster, &worker).is_empty());
        assert_eq!(cluster.counts().decode, 0, "it is not chosen meanwhile");
    }
    assert!(faults.iter().all(|count| *count > 30), "{faults:?}");
}
