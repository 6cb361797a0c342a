//! Ghosts and stale records: a dispatch counts from its moment to its leg's end, whatever is said in between and after.

use super::*;
use crate::sketch::{LEG, SLOT, counts, record};

/// A record that was made before a dispatch does not erase that dispatch, however often
/// and however late it comes, also as the snapshot of a stream that was opened again.
#[test]
fn an_older_record_does_not_erase_a_dispatch() {
    let mut receipts = Receipts::new();
    let first = receipts.dispatched(SLOT, LEG);
    receipts.on_load(SLOT, &record(1));
    let second = receipts.dispatched(SLOT, LEG);
    for _ in 0..10 {
        receipts.on_load(SLOT, &record(1));
        assert_eq!(counts(&receipts), (1, 2));
    }
    receipts.on_load(SLOT, &record(2));
    assert_eq!(counts(&receipts), (0, 2));
    receipts.finished(first);
    receipts.finished(second);
}

/// Nothing of it stays, and nobody else's is taken.
#[test]
fn a_leg_that_is_cancelled_while_it_waits_leaves_nothing_behind() {
    let mut receipts = Receipts::new();
    let cancelled = receipts.dispatched(SLOT, LEG);
    let other = receipts.dispatched(SLOT, LEG);
    receipts.finished(cancelled);
    assert_eq!(counts(&receipts), (1, 1));
    receipts.on_load(SLOT, &record(1));
    receipts.finished(other);
    assert_eq!(receipts.pending(SLOT), Pending::default());
}

/// Late records of a leg that has ended book nothing.
#[test]
fn what_comes_after_the_end_books_nothing() {
    let mut receipts = Receipts::new();
    let receipt = receipts.dispatched(SLOT, LEG);
    receipts.finished(receipt);
    receipts.on_load(SLOT, &record(1));
    assert_eq!(counts(&receipts), (0, 0));
    let _next = receipts.dispatched(SLOT, LEG);
    assert_eq!(counts(&receipts), (1, 1));
}

/// The old worker's legs end late, when the slot has another owner already.
#[test]
fn a_receipt_of_a_worker_that_is_gone_does_not_touch_the_next_one() {
    let mut receipts = Receipts::new();
    let old = receipts.dispatched(SLOT, LEG);
    let older = receipts.dispatched(SLOT, LEG);
    receipts.worker_gone(SLOT);
    assert_eq!(counts(&receipts), (0, 0));
    let new = receipts.dispatched(SLOT, LEG);
    receipts.taken_in(&old);
    receipts.finished(old);
    receipts.finished(older);
    assert_eq!(counts(&receipts), (1, 1));
    receipts.finished(new);
    assert_eq!(counts(&receipts), (0, 0));
}

/// What a record has once contained is not pending again when an older record comes after it.
#[test]
fn records_in_the_wrong_order_do_not_bring_a_leg_back() {
    let mut receipts = Receipts::new();
    let _first = receipts.dispatched(SLOT, LEG);
    let _second = receipts.dispatched(SLOT, LEG);
    receipts.on_load(SLOT, &record(2));
    receipts.on_load(SLOT, &record(1));
    receipts.on_load(SLOT, &record(0));
    assert_eq!(counts(&receipts), (0, 2));
}

/// Elsewhere the state of requests that ran for longer than the expiry was dropped. Nothing here looks at a clock.
#[test]
fn a_booking_lives_as_long_as_its_leg() {
    let mut receipts = Receipts::new();
    let receipt = receipts.dispatched(SLOT, LEG);
    for sequences in [1, 0, 1] {
        receipts.on_load(SLOT, &record(sequences));
        assert_eq!(counts(&receipts), (0, 1), "no record ends a leg, also one that lacks it");
    }
    receipts.finished(receipt);
    assert_eq!(counts(&receipts), (0, 0));
}
