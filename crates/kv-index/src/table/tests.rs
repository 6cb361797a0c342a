use super::*;

fn set(number: u64) -> SetId {
    SetId::of(number).unwrap()
}

/// All in one segment; small numbers have the same home.
fn key(number: u64) -> u64 {
    (5 << 54) | (number % (1 << 40))
}

#[test]
fn a_removed_block_does_not_hide_those_behind_it() {
    let (table, mut writer) = Table::new();
    for number in 0..5 {
        writer.set(&table, key(number), set(number + 1));
    }
    writer.set(&table, key(1), SetId::EMPTY);
    writer.set(&table, key(3), SetId::EMPTY);
    let found = [0, 1, 2, 3, 4].map(|number| table.current().get(key(number)));
    assert_eq!(found, [set(1), SetId::EMPTY, set(3), SetId::EMPTY, set(5)]);
    assert_eq!(writer.len(), 3);
}

#[test]
fn removed_places_become_free_when_nothing_is_behind_them() {
    let (table, mut writer) = Table::new();
    for round in 0..1_000 {
        writer.set(&table, key(round), set(1));
        writer.set(&table, key(round), SetId::EMPTY);
    }
    assert_eq!(writer.fill[5].removed, 0);
    assert_eq!(writer.current.segments[5].0.len(), SIZE_MIN);
}

const SPREAD: u64 = 0x9e_3779_b97f;

#[test]
fn there_is_always_a_free_place_to_stop_at() {
    let (table, mut writer) = Table::new();
    for number in 0..1_000u64 {
        writer.set(&table, key(number * SPREAD), set(1));
        if number % 3 == 0 {
            writer.set(&table, key((number / 2) * SPREAD), SetId::EMPTY);
        }
        let segment = &writer.current.segments[5];
        let free = (0..segment.0.len()).filter(|&i| segment.load(i) == FREE).count();
        assert!(free > segment.0.len() / 8 - 1 && free > 0);
    }
}

/// The fingerprint of ones alone looks like a removed place's.
#[test]
fn every_key_can_be_told_from_a_free_and_a_removed_place() {
    let (table, mut writer) = Table::new();
    for key in [0, u64::MAX, (1 << 40) - 1] {
        writer.set(&table, key, set(7));
        assert_eq!(writer.get(key), set(7));
        writer.set(&table, key, SetId::EMPTY);
        assert_eq!(writer.get(key), SetId::EMPTY);
    }
    assert_eq!(writer.len(), 0);
}

#[test]
fn a_reader_keeps_the_arrays_it_began_with() {
    let (table, mut writer) = Table::new();
    writer.set(&table, key(0), set(1));
    let reader = table.current();
    for number in 1..100 {
        writer.set(&table, key(number), set(2));
    }
    writer.set(&table, key(0), set(3));
    assert_eq!(reader.get(key(0)), set(1));
    assert_eq!(table.current().get(key(0)), set(3));
}
