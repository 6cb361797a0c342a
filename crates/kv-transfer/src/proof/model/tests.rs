//! The small worlds, and the known bugs that the check must find in them.

use super::explore::{Report, explore};
use super::scenario::{Bug, Scenario};
use super::world::World;
use crate::proof::invariants::Violation;

/// One transfer that is tried twice.
const RETRY: &[u128] = &[1, 1];
/// Two transfers that compete for the slots.
const PAIR: &[u128] = &[1, 2];

fn scenario(one_sided: bool, transfers: &'static [u128], faults: u8) -> Scenario {
    Scenario { one_sided, transfers, blocks: 1, slots: 1, faults, bug: None }
}

fn print(name: &str, scenario: &Scenario, report: &Report) {
    println!(
        "{name}, {}, {} faults: {} states, {} steps, {} quiet, longest way {}",
        if scenario.one_sided { "sender stores" } else { "receiver stores" },
        scenario.faults,
        report.states,
        report.steps,
        report.quiet,
        report.depth,
    );
}

fn holds(name: &str, scenario: &Scenario) {
    let report = explore(&World::new(scenario.clone()));
    print(name, scenario, &report);
    if let Some((violation, way)) = report.violation {
        panic!("{violation:?}\nafter {way:#?}");
    }
    assert!(report.completed > 0, "an undisturbed run completes");
}

fn finds(name: &str, scenario: &Scenario) -> Violation {
    let report = explore(&World::new(scenario.clone()));
    print(name, scenario, &report);
    report.violation.expect("the bug is found").0
}

/// One transfer, tried twice, on old and new connections: two faults.
#[test]
fn a_transfer_that_is_tried_again_is_safe_when_the_receiver_stores() {
    holds("retry", &scenario(false, RETRY, 2));
}

#[test]
fn a_transfer_that_is_tried_again_is_safe_when_the_sender_stores() {
    holds("retry", &scenario(true, RETRY, 2));
}

/// Two transfers and one slot: one fault.
#[test]
fn transfers_that_compete_for_a_slot_are_safe() {
    for one_sided in [false, true] {
        holds("pair", &scenario(one_sided, PAIR, 1));
    }
}

/// One transfer of two blocks, so that parts have two units and a store can stop in between.
#[test]
fn a_part_of_two_units_is_safe() {
    for one_sided in [false, true] {
        let scenario = Scenario { blocks: 2, slots: 3, ..scenario(one_sided, &[1], 2) };
        holds("two blocks", &scenario);
    }
}

/// vllm #32255, sglang #24527.
#[test]
fn slots_of_a_revoked_transfer_that_are_freed_at_once_are_found() {
    let bug = Some(Bug::FreesAtOnce);
    let found = finds("freed at once", &Scenario { bug, ..scenario(true, RETRY, 1) });
    assert!(matches!(found, Violation::ForeignStore { .. }), "{found:?}");
}

#[test]
fn a_completion_that_is_counted_for_another_grant_is_found() {
    let bug = Some(Bug::CountsOldGrants);
    let found = finds("old completion", &Scenario { bug, ..scenario(false, RETRY, 2) });
    assert!(matches!(found, Violation::NotWhole { .. }), "{found:?}");
}

/// Without the number of the push in it, a grant that comes too late is taken by the next push of the
/// same transfer, and its slots are somebody else's by then.
#[test]
fn a_grant_for_an_earlier_push_is_found() {
    let bug = Some(Bug::TakesOldGrants);
    let found = finds("old grant", &Scenario { bug, ..scenario(true, RETRY, 1) });
    assert!(matches!(found, Violation::ForeignStore { .. }), "{found:?}");
}

/// Without the name of its leg in it, an event that comes too late ends the next leg of the same transfer.
#[test]
fn an_event_for_an_earlier_leg_is_found() {
    let bug = Some(Bug::TakesOldEvents);
    let found = finds("old event", &Scenario { bug, ..scenario(false, RETRY, 1) });
    assert!(matches!(found, Violation::NotWhole { .. }), "{found:?}");
}
