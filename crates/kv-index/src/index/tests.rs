use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

mod concurrent;
mod lessons;

/// The index as one would write it down first.
#[derive(Debug, Default)]
struct Model {
    holders: BTreeMap<BlockHash, BTreeSet<u32>>,
}

impl Model {
    fn apply(&mut self, slot: u32, event: KvEvent) {
        match event {
            KvEvent::Stored(hash) => drop(self.holders.entry(hash).or_default().insert(slot)),
            KvEvent::Removed(hash) => {
                self.holders.entry(hash).or_default().remove(&slot);
            }
            KvEvent::Cleared => self.holders.values_mut().for_each(|set| {
                set.remove(&slot);
            }),
        }
    }

    fn holds(&self, slot: u32, hash: BlockHash) -> bool {
        self.holders.get(&hash).is_some_and(|set| set.contains(&slot))
    }

    fn blocks_of(&self, slot: u32) -> u64 {
        self.holders.values().filter(|set| set.contains(&slot)).count() as u64
    }

    fn matches(&self, slots: u32, hashes: &[BlockHash]) -> Vec<(WorkerSlot, u32)> {
        let run = |slot| hashes.iter().take_while(|&&hash| self.holds(slot, hash)).count() as u32;
        let runs = (0..slots).map(|slot| (WorkerSlot(slot), run(slot)));
        runs.filter(|(_, blocks)| *blocks > 0).collect()
    }
}

/// Two segments and few homes: every probe meets others' blocks, and segments grow and shrink.
fn crowded(number: u64) -> BlockHash {
    let segment = (number % 2) << 54;
    let home = (number % 3) << 38;
    BlockHash(u128::from(segment | home | number) | 1 << 100)
}

fn hashes(numbers: std::ops::Range<u64>) -> Vec<BlockHash> {
    numbers.map(crowded).collect()
}

fn stored(hashes: &[BlockHash]) -> Vec<KvEvent> {
    hashes.iter().map(|&hash| KvEvent::Stored(hash)).collect()
}

const SLOTS: u32 = 6;
const BLOCKS: u64 = 80;

#[derive(Clone, Debug)]
enum Op {
    Events(Vec<KvEvent>),
    Snapshot(Vec<BlockHash>),
    Restart,
}

fn event() -> impl Strategy<Value = KvEvent> {
    prop_oneof![
        6 => (0..BLOCKS).prop_map(|n| KvEvent::Stored(crowded(n))),
        5 => (0..BLOCKS).prop_map(|n| KvEvent::Removed(crowded(n))),
        1 => Just(KvEvent::Cleared),
    ]
}

/// Prefixes are stored in order, holes are made anywhere.
fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..BLOCKS).prop_map(|n| Op::Events(stored(&hashes(0..n)))),
        6 => proptest::collection::vec(event(), 1..20).prop_map(Op::Events),
        2 => (0..BLOCKS).prop_map(|n| Op::Snapshot(hashes(n / 2..n))),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #[test]
    fn the_index_equals_a_map_of_sets(
        ops in proptest::collection::vec((0..SLOTS, op()), 1..60),
    ) {
        let (index, mut model) = (KvIndex::new(), Model::default());
        for (slot, op) in ops {
            match op {
                Op::Events(events) => {
                    index.apply(WorkerSlot(slot), &events);
                    events.into_iter().for_each(|event| model.apply(slot, event));
                }
                Op::Snapshot(hashes) => {
                    index.insert(WorkerSlot(slot), &hashes);
                    hashes.iter().for_each(|&hash| model.apply(slot, KvEvent::Stored(hash)));
                }
                Op::Restart => {
                    index.clear(WorkerSlot(slot));
                    model.apply(slot, KvEvent::Cleared);
                }
            }
            for prompt in [hashes(0..BLOCKS), hashes(0..7), hashes(30..BLOCKS)] {
                let matches = index.matches(&prompt);
                let found: Vec<_> = matches.iter().collect();
                prop_assert_eq!(found, model.matches(SLOTS, &prompt));
                let mut held = matches.in_order();
                for slot in (0..SLOTS).map(WorkerSlot) {
                    prop_assert_eq!(held(slot), matches.blocks(slot));
                }
            }
            for slot in 0..SLOTS {
                prop_assert_eq!(index.blocks_of(WorkerSlot(slot)), model.blocks_of(slot));
            }
            let distinct = model.holders.values().filter(|set| !set.is_empty()).count();
            prop_assert_eq!(index.distinct_blocks(), distinct);
        }
    }
}

#[test]
fn a_hole_ends_the_run_and_the_blocks_behind_it_come_back() {
    let (index, worker) = (KvIndex::new(), WorkerSlot(3));
    let prompt = hashes(0..10);
    index.apply(worker, &stored(&prompt));
    index.apply(worker, &[KvEvent::Removed(prompt[4])]);
    assert_eq!(index.matches(&prompt).blocks(worker), 4);
    index.apply(worker, &[KvEvent::Stored(prompt[4])]);
    assert_eq!(index.matches(&prompt).blocks(worker), 10);
    index.apply(worker, &[KvEvent::Removed(prompt[0])]);
    assert!(index.matches(&prompt).is_empty());
}

#[test]
fn a_clear_between_stores_leaves_what_came_after_it() {
    let (index, worker) = (KvIndex::new(), WorkerSlot(0));
    let (old, new) = (hashes(0..9), hashes(9..12));
    let mut events = stored(&old);
    events.push(KvEvent::Cleared);
    events.extend(stored(&new));
    index.apply(worker, &events);
    assert_eq!(index.blocks_of(worker), 3);
    assert_eq!(index.matches(&new).blocks(worker), 3);
}

#[test]
fn nothing_matches_an_empty_index_or_an_empty_prompt() {
    let index = KvIndex::new();
    assert!(index.matches(&hashes(0..5)).is_empty());
    index.insert(WorkerSlot(0), &hashes(0..5));
    assert!(index.matches(&[]).is_empty());
    assert_eq!(index.matches(&[]).longest(), 0);
}
