//! Shares: whoever can work gets work, and whoever cannot says nothing of the others.

use super::herding::burst;
use super::town::Town;
use super::*;

/// Cold and just-started workers get their share.
#[test]
fn a_worker_that_has_just_started_gets_work() {
    let mut workers = pool(0..3);
    for worker in &mut workers[..2] {
        worker.cached_blocks = 6;
        worker.load.waiting_prefill_tokens = 1_000;
    }
    let shares = burst(&mut workers, 30, &mut Receipts::new());
    assert!(shares[&2] >= 8, "{shares:?}");
}

/// Full and leaving workers say nothing about the load of those that can be chosen.
#[test]
fn workers_that_cannot_be_chosen_are_in_no_average() {
    let config = RoutingConfig::default();
    let mut workers = pool(0..2);
    let before = explain(&request(300), &workers, &pool(5..6), &config).prefill_pressure;
    let mut leaving = idle(2);
    leaving.draining = true;
    leaving.load.waiting_prefill_tokens = 1_000_000;
    workers.push(leaving);
    let after = explain(&request(300), &workers, &pool(5..6), &config).prefill_pressure;
    assert_eq!(before, after);
}

/// Zeros before the first record would look like an idle worker.
#[test]
fn a_worker_without_a_load_record_is_neither_preferred_nor_starved() {
    let mut fleet = Fleet::new(RoutingConfig::default());
    let mut rng = SplitMix64::new(3);
    for slot in 0..3 {
        fleet.join(slot, traits(slot));
    }
    let busy = LoadRecord { waiting_prefill_tokens: 5_000, waiting_sequences: 5, ..nothing() };
    fleet.heard(0, &busy, false);
    fleet.heard(1, &busy, false);
    let mut share = |fleet: &Fleet| {
        let mut shares = [0; 3];
        for _ in 0..300 {
            let decision = fleet.choose(&request(500), |_| 0, |_| true, &mut rng).unwrap();
            let Choice::Aggregated { decode } = decision.choice else { panic!("{decision:?}") };
            shares[decode as usize] += 1;
        }
        shares
    };
    assert_eq!(share(&fleet)[2], 0);
    fleet.heard(2, &busy, false);
    assert!(share(&fleet)[2] > 50);
}

/// After a reconnect a worker's state is not what it was: it is not chosen, and its old load weighs nothing.
#[test]
fn a_worker_whose_stream_broke_is_in_no_choice_and_no_average_until_its_next_snapshot() {
    let mut fleet = Fleet::new(RoutingConfig::default());
    for slot in 0..2 {
        fleet.join(slot, traits(slot));
        fleet.heard(slot, &nothing(), false);
    }
    let calm = fleet.explain(&request(300), |_| 0).decode_pressure;
    let busy = LoadRecord { waiting_prefill_tokens: 50_000, ..nothing() };
    fleet.heard(1, &busy, false);
    fleet.unsynced(1);
    let explanation = fleet.explain(&request(300), |_| 0);
    assert_eq!((explanation.decode.len(), explanation.decode_pressure), (1, calm));
    fleet.heard(1, &nothing(), false);
    assert_eq!(fleet.explain(&request(300), |_| 0).decode.len(), 2);
}

/// Requests that share nothing and come one by one: two of five workers got none of them elsewhere.
#[test]
fn every_worker_gets_its_share_of_light_single_turn_load() {
    let mut town = Town::new(5, 1);
    town.run(500, 60);
    let shares = town.shares();
    assert!(shares.iter().all(|share| (60..140).contains(share)), "{shares:?}");
}

/// A worker that comes while the others are busy is neither flooded for its empty queue nor left idle for its empty cache.
#[test]
fn a_worker_that_joins_under_load_gets_its_share_and_not_everything() {
    let mut town = Town::new(4, 1);
    town.run(300, 12);
    let joined = town.join();
    let most = town.run(400, 12);
    let share = town.shares()[joined];
    assert!((70..95).contains(&share), "{share} of 400");
    assert!(most <= 8, "{most} more than the least busy one at some moment");
}

/// Each router sees its own dispatches at once and the other's in the workers' next records.
#[test]
fn two_routers_keep_the_workers_as_even_as_one() {
    let uneven = |routers| {
        let mut town = Town::new(6, routers);
        town.prompt_tokens = 400;
        town.run(600, 8)
    };
    let (one, two, four) = (uneven(1), uneven(2), uneven(4));
    assert!(two <= one + 2 && four <= one + 4, "{one}, {two}, {four}");
}
