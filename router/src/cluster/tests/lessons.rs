//! What went wrong in production elsewhere, as far as it takes the router's tables. `docs/lessons.md` lists all lessons.

use super::*;
use std::collections::BTreeMap;

/// Minutes in a queue change what is cached.
#[tokio::test]
async fn the_overlap_is_looked_up_when_a_request_is_sent_and_not_only_when_it_comes() {
    let cluster = cluster();
    let [a, b] = ["a", "b"].map(|id| join(&cluster, id, 100));
    let mut wanted = request(800);
    let hashes: Vec<_> = (1..50).map(BlockHash).collect();
    wanted.hashes = hashes.clone().into();
    let stored: Vec<_> = hashes.iter().map(|hash| KvEvent::Stored(*hash)).collect();
    let removed: Vec<_> = hashes.iter().map(|hash| KvEvent::Removed(*hash)).collect();
    cluster.index.apply(WorkerSlot(a.slot), &stored);
    [&a, &b].iter().for_each(|worker| hear(&cluster, worker, 100, 1));
    let waits = place(&cluster, wanted, Excluded::default(), false).await;
    cluster.index.apply(WorkerSlot(a.slot), &removed);
    cluster.index.apply(WorkerSlot(b.slot), &stored);
    [&a, &b].iter().for_each(|worker| hear(&cluster, worker, 100, 0));
    assert_eq!(slot(waits).await, Ok(b.slot));
}

/// What is booked before it is sent counts twice when it waits, and for ever when it goes away.
#[tokio::test]
async fn a_request_that_waits_or_is_cancelled_while_it_waits_has_booked_nothing() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 100);
    hear(&cluster, &worker, 100, 1);
    let waits = place(&cluster, request(800), Excluded::default(), false).await;
    // There is one place: whoever had booked it would have filled it.
    let full = || cluster.explain(&request(16)).terms.decode[0].score.is_err();
    assert!(full());
    hear_without_waking(&cluster, &worker);
    assert!(!full());
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    assert!(cluster.lock().room.is_empty());
    assert!(!full());
}

/// As if the record had come while nobody waited.
fn hear_without_waking(cluster: &Cluster, worker: &WorkerKey) {
    let idle = LoadRecord { total_blocks: 100, free_blocks: 100, ..load() };
    cluster.lock().fleet.heard(worker.slot, &idle, false);
}

/// A dispatch counts from the choice on, so a hundred at once do not all go to the emptiest worker.
#[tokio::test]
async fn a_hundred_choices_at_once_are_spread() {
    let cluster = cluster();
    for id in ["a", "b", "c", "d"] {
        let mut info = info(id, 1, v1::Role::Decode);
        let pool = info.pool.as_mut().unwrap();
        (pool.model_digest, pool.vocab_size) = (vec![0; 32].into(), 0);
        info.max_waiting = 1_000;
        let worker = cluster.join(info).unwrap();
        hear(&cluster, &worker, 10_000, 0);
    }
    let (request, excluded) = (request(100), Excluded::default());
    let chosen: Vec<_> = std::thread::scope(|scope| {
        let choices: Vec<_> =
            (0..100).map(|_| scope.spawn(|| cluster.choose(&request, &excluded, None))).collect();
        choices.into_iter().map(|choice| choice.join().unwrap().unwrap()).collect()
    });
    let mut shares: BTreeMap<u32, usize> = BTreeMap::new();
    chosen.iter().for_each(|chosen| *shares.entry(chosen.decode.worker.slot).or_default() += 1);
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [25; 4]);
    let mut transfers: Vec<_> = chosen.iter().map(|chosen| chosen.transfer.0).collect();
    transfers.sort_unstable();
    transfers.dedup();
    assert_eq!(transfers.len(), 100, "an attempt has a transfer id of its own");
}

/// One broken connection is no reason to give a worker up: it is kept from the request that it failed, and from no other.
#[tokio::test]
async fn a_worker_that_failed_one_request_is_chosen_for_others() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 100);
    let mut excluded = Excluded::default();
    excluded.add(worker.clone());
    let failed = place(&cluster, request(20), excluded, false).await;
    assert_eq!(slot(failed).await, Err(ErrorCode::NoWorker));
    let other = place(&cluster, request(20), Excluded::default(), false).await;
    assert_eq!(slot(other).await, Ok(worker.slot));
}

/// An autoscaler that adds up series must not add those of the dead.
#[tokio::test]
async fn a_worker_that_has_left_has_no_series() {
    let cluster = cluster();
    let worker = join(&cluster, "departed", 100);
    assert!(cluster.worker_metrics().contains("departed"));
    cluster.leave(&worker);
    assert!(!cluster.worker_metrics().contains("departed"));
}

/// What is exported is the worker's record, whatever the score makes of it.
#[tokio::test]
async fn exported_counts_are_the_workers_own_and_not_discounted() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 100);
    let record = LoadRecord {
        waiting_sequences: 2,
        waiting_prefill_tokens: 3_001,
        running_prefill_tokens: 507,
        decoding_sequences: 7,
        decoding_tokens: 70_003,
        ..load()
    };
    // Legs on their way and a request that waits are not the worker's work yet.
    let on_its_way = cluster.choose(&request(100), &Excluded::default(), None).unwrap();
    cluster.delta(&worker, &[], record, false);
    let text = cluster.worker_metrics();
    for (name, value) in [
        ("waiting_sequences", 2),
        ("waiting_prefill_tokens", 3_001),
        ("running_prefill_tokens", 507),
        ("decoding_sequences", 7),
        ("decoding_tokens", 70_003),
    ] {
        let line =
            text.lines().find(|line| line.starts_with(&format!("estafette_worker_{name}{{")));
        assert!(line.is_some_and(|line| line.ends_with(&format!(" {value}"))), "{name}: {text}");
    }
    drop(on_its_way);
}
