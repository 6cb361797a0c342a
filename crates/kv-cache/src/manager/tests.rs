use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn hash(n: u128) -> BlockHash {
    BlockHash(n)
}

#[test]
fn a_released_prefix_is_shared_by_the_next_table() {
    let mut manager = BlockManager::new(4, 16);
    let (table, shared) = manager.allocate(&[], 0, 33).unwrap();
    assert_eq!((table.blocks().len(), shared), (3, 0));
    manager.publish(&table, 0, hash(1));
    manager.publish(&table, 1, hash(2));
    let first = table.blocks()[0];
    manager.release(table);
    assert_eq!(manager.free_blocks(), 4);
    let (table, shared) = manager.allocate(&[hash(1), hash(2), hash(3)], 1, 48).unwrap();
    assert_eq!((shared, table.blocks()[0]), (1, first));
    manager.release(table);
}

#[test]
fn allocation_is_all_or_nothing() {
    let mut manager = BlockManager::new(3, 16);
    let (held, _) = manager.allocate(&[], 0, 32).unwrap();
    assert_eq!(manager.allocate(&[], 0, 17).unwrap_err(), OutOfBlocks { needed: 2, free: 1 });
    assert_eq!(manager.free_blocks(), 1);
    manager.check_integrity([&held].into_iter()).unwrap();
    manager.release(held);
}

#[test]
fn a_shared_block_is_not_counted_as_free_for_the_same_table() {
    let mut manager = BlockManager::new(2, 16);
    let (table, _) = manager.allocate(&[], 0, 32).unwrap();
    manager.publish(&table, 0, hash(1));
    manager.publish(&table, 1, hash(2));
    manager.release(table);
    // Two blocks are free, but both are the prefix itself.
    let error = manager.allocate(&[hash(1), hash(2)], 2, 48).unwrap_err();
    assert_eq!(error, OutOfBlocks { needed: 1, free: 0 });
}

#[test]
fn the_tail_of_a_sequence_is_evicted_before_its_head() {
    let mut manager = BlockManager::new(3, 16);
    let (table, _) = manager.allocate(&[], 0, 48).unwrap();
    for i in 0..3 {
        manager.publish(&table, i, hash(i as u128));
    }
    manager.release(table);
    manager.take_events();
    let (table, _) = manager.allocate(&[], 0, 16).unwrap();
    assert_eq!(manager.take_events(), [KvEvent::Removed(hash(2))]);
    assert_eq!(manager.match_prefix(&[hash(0), hash(1), hash(2)]), 2);
    manager.release(table);
}

#[test]
fn the_first_of_two_equal_blocks_stays_the_shared_one() {
    let mut manager = BlockManager::new(2, 16);
    let (a, _) = manager.allocate(&[], 0, 16).unwrap();
    let (b, _) = manager.allocate(&[], 0, 16).unwrap();
    manager.publish(&a, 0, hash(7));
    manager.publish(&b, 0, hash(7));
    let first = a.blocks()[0];
    let (c, _) = manager.allocate(&[hash(7)], 1, 16).unwrap();
    assert_eq!(c.blocks(), [first]);
    manager.check_integrity([&a, &b, &c].into_iter()).unwrap();
    for table in [a, b, c] {
        manager.release(table);
    }
}

#[test]
fn what_comes_and_goes_between_two_looks_is_no_event() {
    let mut manager = BlockManager::new(1, 16);
    let (table, _) = manager.allocate(&[], 0, 16).unwrap();
    manager.publish(&table, 0, hash(1));
    manager.release(table);
    let (table, _) = manager.allocate(&[], 0, 16).unwrap();
    manager.publish(&table, 0, hash(2));
    assert_eq!(manager.take_events(), [KvEvent::Stored(hash(2))]);
    assert_eq!(manager.evictions(), 1);
    manager.release(table);
    assert_eq!(manager.free_blocks(), 1);
}

#[derive(Clone, Debug)]
enum Op {
    Allocate { prompt: u8, tokens: usize, max_shared: usize },
    Grow { which: usize, by: usize },
    Publish { which: usize },
    Release { which: usize },
    Look,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..3u8, 1..90usize, 0..6usize)
            .prop_map(|(prompt, tokens, max_shared)| Op::Allocate { prompt, tokens, max_shared }),
        2 => (0..8usize, 1..40usize).prop_map(|(which, by)| Op::Grow { which, by }),
        4 => (0..8usize).prop_map(|which| Op::Publish { which }),
        3 => (0..8usize).prop_map(|which| Op::Release { which }),
        2 => Just(Op::Look),
    ];
    prop::collection::vec(op, 1..120)
}

/// The chained hashes of an imaginary prompt: equal prompts, equal hashes.
fn hashes_of(prompt: u8) -> Vec<BlockHash> {
    (0..12).map(|i| hash(u128::from(prompt) * 100 + i)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens: no block is lost or used twice by strangers, and whoever follows the events knows
    /// exactly what is cached.
    #[test]
    fn conservation_and_events(ops in ops()) {
        let mut manager = BlockManager::new(12, 16);
        let mut tables: Vec<(u8, BlockTable)> = Vec::new();
        let mut follower: BTreeSet<BlockHash> = BTreeSet::new();
        for op in ops {
            match op {
                Op::Allocate { prompt, tokens, max_shared } => {
                    let before = manager.free_blocks();
                    match manager.allocate(&hashes_of(prompt), max_shared, tokens) {
                        Ok((table, shared)) => {
                            prop_assert!(shared <= max_shared);
                            prop_assert_eq!(table.blocks().len(), tokens.div_ceil(16));
                            tables.push((prompt, table));
                        }
                        Err(_) => prop_assert_eq!(manager.free_blocks(), before),
                    }
                }
                Op::Grow { which, by } => if let Some((_, table)) = tables.get_mut(which) {
                    let tokens = table.blocks().len() * 16 + by;
                    let grown = manager.grow(table, tokens).is_ok();
                    prop_assert_eq!(grown, table.blocks().len() == tokens.div_ceil(16));
                },
                Op::Publish { which } => if let Some((prompt, table)) = tables.get(which) {
                    for (i, hash) in hashes_of(*prompt).into_iter().enumerate().take(table.blocks().len()) {
                        manager.publish(table, i, hash);
                    }
                },
                Op::Release { which } => if which < tables.len() {
                    manager.release(tables.remove(which).1);
                },
                Op::Look => for event in manager.take_events() {
                    match event {
                        KvEvent::Cleared => panic!("nothing clears the cache"),
                        KvEvent::Stored(hash) => prop_assert!(follower.insert(hash)),
                        KvEvent::Removed(hash) => prop_assert!(follower.remove(&hash)),
                    }
                },
            }
            manager.check_integrity(tables.iter().map(|(_, table)| table)).unwrap();
        }
        for event in manager.take_events() {
            match event {
                KvEvent::Cleared => panic!("nothing clears the cache"),
                KvEvent::Stored(hash) => { follower.insert(hash); }
                KvEvent::Removed(hash) => { follower.remove(&hash); }
            }
        }
        prop_assert_eq!(follower.into_iter().collect::<Vec<_>>(), manager.cached_hashes());
        for (_, table) in tables {
            manager.release(table);
        }
        prop_assert_eq!(manager.free_blocks(), 12);
    }
}
