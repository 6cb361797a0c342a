//! Readers beside writers: what nobody touches is always found, what nobody ever stored never.

use super::*;

/// Blocks of the common prefix, held by the two steady workers at all times.
const PREFIX: u64 = 40;
const STEADY: [WorkerSlot; 2] = [WorkerSlot(0), WorkerSlot(1)];
/// A worker that holds the first blocks only.
const SHORT: (WorkerSlot, u64) = (WorkerSlot(2), 17);
const ROUNDS: u64 = 3_000;

/// Other workers take the same prefix and leave again, so that its holder sets are made, given up and used again, and
/// fill the same segments with blocks of their own.
fn churn(index: &KvIndex, writer: u64) {
    let mut rng = estafette_types::SplitMix64::new(writer);
    for round in 0..ROUNDS {
        let slot = WorkerSlot(10 + (writer * 20 + rng.below(20)) as u32);
        let mut events = stored(&hashes(0..rng.below(PREFIX)));
        let own = 1_000 * (writer + 1) + round % 500;
        events.extend(stored(&hashes(own..own + rng.below(30))));
        index.apply(slot, &events);
        if rng.below(3) == 0 {
            index.apply(slot, &[KvEvent::Removed(crowded(rng.below(PREFIX)))]);
        }
        if rng.below(10) == 0 {
            index.clear(slot);
        }
    }
}

fn look(index: &KvIndex, stop: &AtomicBool) -> u64 {
    let (prompt, mut lookups) = (hashes(0..PREFIX), 0);
    while !stop.load(Ordering::Relaxed) || lookups == 0 {
        let found = index.matches(&prompt);
        for slot in STEADY {
            assert_eq!(found.blocks(slot), PREFIX as u32);
        }
        assert_eq!(found.blocks(SHORT.0), SHORT.1 as u32);
        assert!(found.iter().all(|(slot, _)| slot.0 < 50 && !(3..10).contains(&slot.0)));
        assert!(index.matches(&hashes(500..510)).is_empty());
        lookups += 1;
    }
    lookups
}

#[test]
fn readers_beside_writers_see_what_is_there_and_nothing_else() {
    let (index, stop) = (KvIndex::new(), AtomicBool::new(false));
    for slot in STEADY {
        index.insert(slot, &hashes(0..PREFIX));
    }
    index.insert(SHORT.0, &hashes(0..SHORT.1));
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| scope.spawn(|| look(&index, &stop)));
        let shared = &index;
        let writers = [0, 1].map(|writer| scope.spawn(move || churn(shared, writer)));
        let written = writers.map(std::thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        assert!(written.iter().all(Result::is_ok));
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    for slot in 10..50 {
        index.clear(WorkerSlot(slot));
    }
    assert_eq!(index.distinct_blocks() as u64, PREFIX);
}
