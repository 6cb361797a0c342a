use super::*;
use estafette_proto::hashes_from_bytes;
use std::collections::BTreeSet;

fn received(
    receiver: &mut mpsc::Receiver<Result<v1::StateUpdate, Status>>,
) -> Vec<v1::state_update::Body> {
    std::iter::from_fn(|| receiver.try_recv().ok()).filter_map(|u| u.unwrap().body).collect()
}

#[test]
fn a_snapshot_comes_in_chunks_and_deltas_follow() {
    let hashes: Vec<_> = (0..CHUNK_HASHES as u128 + 3).map(BlockHash).collect();
    let mut publisher = StatePublisher::default();
    let (sender, mut receiver) = mpsc::channel(8);
    publisher.subscribe(sender, &hashes, LoadRecord::default(), false);
    publisher.publish(
        &[KvEvent::Stored(BlockHash(900_000)), KvEvent::Removed(BlockHash(1))],
        LoadRecord { steps: 1, ..Default::default() },
        false,
    );
    let mut known = BTreeSet::new();
    let bodies = received(&mut receiver);
    assert_eq!(bodies.len(), 3);
    for body in bodies {
        match body {
            v1::state_update::Body::Snapshot(chunk) => {
                known.extend(hashes_from_bytes(&chunk.block_hashes).unwrap());
            }
            v1::state_update::Body::Delta(delta) => {
                for event in delta.events().unwrap() {
                    match event {
                        KvEvent::Stored(hash) => assert!(known.insert(hash)),
                        KvEvent::Removed(hash) => assert!(known.remove(&hash)),
                        KvEvent::Cleared => known.clear(),
                    }
                }
            }
            v1::state_update::Body::Tick(_) => panic!("the service ticks, not the publisher"),
        }
    }
    assert_eq!(known.len(), hashes.len());
    assert!(!known.contains(&BlockHash(1)));
}

#[test]
fn nothing_new_is_not_sent_and_a_laggard_is_cut_off() {
    let mut publisher = StatePublisher::default();
    let (sender, mut receiver) = mpsc::channel(2);
    publisher.subscribe(sender, &[], LoadRecord::default(), false);
    let load = LoadRecord { steps: 1, ..Default::default() };
    publisher.publish(&[], load, false);
    publisher.publish(&[], load, false);
    assert_eq!(publisher.subscribers.len(), 1);
    publisher.publish(&[], load, true);
    assert!(publisher.subscribers.is_empty());
    assert_eq!(received(&mut receiver).len(), 2);
}

#[test]
fn what_came_before_a_clear_does_not_count() {
    let delta = delta(
        &[KvEvent::Stored(BlockHash(1)), KvEvent::Cleared, KvEvent::Stored(BlockHash(2))],
        LoadRecord::default(),
        false,
    );
    assert_eq!(delta.events().unwrap(), [KvEvent::Cleared, KvEvent::Stored(BlockHash(2))]);
}
