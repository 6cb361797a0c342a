use super::*;

struct Fixture {
    sets: HolderSets,
    book: SetBook,
}

impl Fixture {
    fn new() -> Self {
        Self { sets: HolderSets::default(), book: SetBook::default() }
    }

    fn add(&mut self, before: SetId, slot: u32) -> SetId {
        let after = self.book.with(&self.sets, before, slot);
        if after != before {
            self.book.moved(before, after);
        }
        after
    }

    fn remove(&mut self, before: SetId, slot: u32) -> SetId {
        let after = self.book.without(&self.sets, before, slot);
        if after != before {
            self.book.moved(before, after);
        }
        after
    }

    fn of(&mut self, slots: &[u32]) -> SetId {
        slots.iter().fold(SetId::EMPTY, |set, &slot| self.add(set, slot))
    }

    fn slots(&self, set: SetId) -> Vec<u32> {
        self.sets.with_slots(set, <[u32]>::to_vec)
    }
}

#[test]
fn equal_sets_are_one_whatever_the_order_of_their_workers() {
    let mut fixture = Fixture::new();
    let one = fixture.of(&[3, 1, 2]);
    let other = fixture.of(&[2, 3, 1]);
    assert_eq!(one, other);
    assert_eq!(fixture.slots(one), [1, 2, 3]);
    assert_ne!(one, fixture.of(&[1, 2]));
}

#[test]
fn adding_twice_and_removing_a_stranger_change_nothing() {
    let mut fixture = Fixture::new();
    let pair = fixture.of(&[1, 2]);
    assert_eq!(fixture.add(pair, 2), pair);
    assert_eq!(fixture.remove(pair, 3), pair);
    assert_eq!(fixture.remove(SetId::EMPTY, 3), SetId::EMPTY);
    let single = fixture.remove(pair, 1);
    assert_eq!(fixture.slots(single), [2]);
    assert_eq!(fixture.remove(single, 2), SetId::EMPTY);
}

#[test]
fn a_slot_that_has_no_number_is_not_kept() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.add(SetId::EMPTY, SINGLE), SetId::EMPTY);
    let largest = fixture.add(SetId::EMPTY, SINGLE - 1);
    assert_eq!(fixture.slots(largest), [SINGLE - 1]);
}

/// A lookup may hold a number for as long as it likes.
#[test]
fn a_number_is_not_used_again_while_a_reader_may_hold_it() {
    let (table, mut writer) = Table::new();
    let mut fixture = Fixture::new();
    let reader = table.current();
    let held = fixture.of(&[1, 2]);
    fixture.remove(held, 1);
    let churn = |fixture: &mut Fixture, writer: &mut Writer| {
        for slot in 10..2_000 {
            let pair = fixture.of(&[1, slot]);
            fixture.remove(pair, 1);
            fixture.book.recycle(&fixture.sets, &table, writer);
        }
    };
    churn(&mut fixture, &mut writer);
    assert_eq!(fixture.slots(held), [1, 2]);
    assert!(fixture.book.unused.is_empty());
    drop(reader);
    churn(&mut fixture, &mut writer);
    let numbers = fixture.book.sets.len();
    churn(&mut fixture, &mut writer);
    assert_eq!(fixture.book.sets.len(), numbers, "numbers come back");
}
