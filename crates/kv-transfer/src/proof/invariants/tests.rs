//! Each checker finds a synthetic wrong state.

use super::one_verdict::{Side, Verdicts};
use super::*;
use crate::proof::ledger::Ledger;

const MINE: GrantId = GrantId { transfer: 1, epoch: 1 };
const OLD: GrantId = GrantId { transfer: 1, epoch: 0 };

fn granted() -> Ledger {
    let mut ledger = Ledger::new(2, 2);
    ledger.grant(MINE, vec![(0, 0), (1, 1)]);
    ledger
}

fn filled(ledger: &mut Ledger) {
    for (logical, group) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        ledger.store(MINE, (logical, group, logical), true).expect("granted");
        ledger.verified(MINE, logical, group);
    }
}

#[test]
fn a_store_by_another_grant_is_foreign() {
    let mut ledger = granted();
    let foreign = |result| matches!(result, Err(Violation::ForeignStore { .. }));
    assert!(foreign(ledger.store(OLD, (0, 0, 0), true)), "another epoch");
    assert!(foreign(ledger.store(MINE, (0, 0, 1), true)), "another block's slot");
    assert!(foreign(ledger.store(MINE, (0, 0, 9), true)), "no slot at all");
    filled(&mut ledger);
    ledger.adopt(MINE);
    assert!(foreign(ledger.store(MINE, (0, 0, 0), true)), "adopted");
    ledger.free_sequence(MINE);
    assert!(foreign(ledger.store(MINE, (0, 0, 0), true)), "free");
}

#[test]
fn what_is_adopted_must_be_stored_intact_and_verified() {
    let mut ledger = granted();
    assert!(whole::check(&ledger, MINE, 2).is_err(), "nothing is there");
    filled(&mut ledger);
    assert_eq!(whole::check(&ledger, MINE, 2), Ok(()));
    ledger.store(MINE, (1, 0, 1), true).expect("granted");
    let missing = Violation::NotWhole { grant: MINE, logical: 1, group: 0 };
    assert_eq!(
        whole::check(&ledger, MINE, 2),
        Err(missing.clone()),
        "stored after it was verified"
    );
    ledger.store(MINE, (1, 0, 1), false).expect("granted");
    ledger.verified(MINE, 1, 0);
    assert_eq!(whole::check(&ledger, MINE, 2), Err(missing), "damaged");
    assert_eq!(whole::check(&ledger, MINE, 1), Ok(()), "the first block is whole");
}

#[test]
fn a_slot_that_is_not_free_in_the_end_is_a_leak() {
    let mut ledger = granted();
    assert!(no_leak::check(&ledger).is_err());
    ledger.free_grant(MINE);
    assert_eq!(no_leak::check(&ledger), Ok(()));
}

#[test]
fn no_verdict_two_and_one_out_of_nowhere_are_wrong() {
    let mut verdicts = Verdicts::default();
    verdicts.owe(Side::Sender, 1);
    assert!(verdicts.check().is_err(), "none");
    assert_eq!(verdicts.give(Side::Sender, 1), Ok(()));
    assert_eq!(verdicts.check(), Ok(()));
    assert!(verdicts.give(Side::Sender, 1).is_err(), "two");
    assert!(verdicts.give(Side::Receiver, 1).is_err(), "nobody waits");
}

#[test]
fn a_read_after_the_outcome_is_found() {
    assert!(source_pinned::check(1, true).is_err());
    assert_eq!(source_pinned::check(1, false), Ok(()));
}

#[test]
fn other_bytes_are_found() {
    assert!(right_bytes::check(MINE, 0, 0, &[1, 2], &[1, 3]).is_err());
    assert_eq!(right_bytes::check(MINE, 0, 0, &[1, 2], &[1, 2]), Ok(()));
}
