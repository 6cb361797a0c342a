//! What went wrong in production elsewhere, as far as the index can get it wrong. `docs/lessons.md` lists all lessons.

use super::*;

/// A removal that was missed, or comes twice, must not take another block away.
#[test]
fn missed_and_repeated_removals_change_nothing_else() {
    let (index, worker, other) = (KvIndex::new(), WorkerSlot(0), WorkerSlot(1));
    let prompt = hashes(0..4);
    index.apply(other, &stored(&prompt));
    let removed = KvEvent::Removed(prompt[1]);
    index.apply(worker, &[removed, KvEvent::Stored(prompt[0]), removed, removed]);
    assert_eq!(index.blocks_of(worker), 1);
    let found: Vec<_> = index.matches(&prompt).iter().collect();
    assert_eq!(found, [(worker, 1), (other, 4)]);
}

/// A worker that restarts has nothing, whatever its last life held; its slot may have another owner.
#[test]
fn a_slot_that_is_used_again_holds_nothing_of_its_former_owner() {
    let (index, slot) = (KvIndex::new(), WorkerSlot(2));
    let (old, new) = (hashes(0..50), hashes(40..60));
    index.apply(slot, &stored(&old));
    index.clear(slot);
    assert_eq!((index.blocks_of(slot), index.distinct_blocks()), (0, 0));
    index.insert(slot, &new);
    assert!(index.matches(&old).is_empty());
    assert_eq!(index.matches(&new).blocks(slot), 20);
}

/// A router's memory must not grow with a stream of unique prompts.
#[test]
fn memory_is_bounded_by_what_is_held_and_not_by_what_passed_through() {
    let (index, worker) = (KvIndex::new(), WorkerSlot(0));
    let mut rng = estafette_types::SplitMix64::new(1);
    let mut fresh = || BlockHash(rng.next_u128());
    let mut cached = std::collections::VecDeque::new();
    let mut peak = 0;
    for round in 0..400_000 {
        cached.push_back(fresh());
        let mut events = vec![KvEvent::Stored(cached[cached.len() - 1])];
        if cached.len() > 20_000 {
            events.extend(cached.pop_front().map(KvEvent::Removed));
        }
        index.apply(worker, &events);
        if round == 40_000 {
            peak = index.memory_bytes();
        }
    }
    assert_eq!(index.blocks_of(worker), 20_000);
    assert!(index.memory_bytes() < peak * 5 / 4, "{} after {peak}", index.memory_bytes());
    index.clear(worker);
    assert!(index.memory_bytes() < peak / 2, "a worker's memory goes with it");
}
