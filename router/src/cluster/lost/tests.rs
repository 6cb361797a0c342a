use super::Fate;
use crate::cluster::Excluded;
use crate::cluster::tests::{cluster, join, request};
use estafette_types::LoadRecord;
use std::time::Duration;
use tokio::time::timeout;

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn who_waits_for_a_worker_hears_that_it_is_lost_and_who_comes_later_does_not() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 100);
    let choose = || cluster.choose(&request(20), &Excluded::default(), None).unwrap();
    let mut before = choose();
    cluster.lost(&worker);
    assert_eq!(before.decode.lost.wait().await, Fate::Silent);
    drop(before);
    // It is back.
    let mut after = choose();
    assert!(timeout(SOON, after.decode.lost.wait()).await.is_err());
}

#[tokio::test]
async fn a_worker_that_vanishes_is_lost_and_one_that_leaves_in_order_is_not() {
    let cluster = cluster();
    for draining in [false, true] {
        let worker = join(&cluster, "a", 100);
        let mut chosen = cluster.choose(&request(20), &Excluded::default(), None).unwrap();
        let load = LoadRecord { total_blocks: 100, ..LoadRecord::default() };
        cluster.delta(&worker, &[], load, draining);
        cluster.leave(&worker);
        assert_eq!(timeout(SOON, chosen.decode.lost.wait()).await.is_err(), draining);
    }
}

/// The guess for a machine that nothing is known of is generous, and what it shows counts then.
#[tokio::test]
async fn a_long_step_is_no_crash() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 100);
    let guessed = cluster.longest_stillness(&worker);
    assert!(guessed >= Duration::from_secs(5), "{guessed:?}");
    let mut load = LoadRecord { total_blocks: 100, ..LoadRecord::default() };
    for _ in 0..50 {
        // Half a second for a full step.
        (load.steps, load.step_micros) = (load.steps + 1, 500_000);
        load.done.computed += 512;
        load.prefill_attended += 512 * 300;
        cluster.delta(&worker, &[], load, false);
    }
    let learned = cluster.longest_stillness(&worker);
    assert!((4.0..10.0).contains(&learned.as_secs_f64()), "{learned:?}");
    for _ in 0..50 {
        (load.steps, load.step_micros) = (load.steps + 1, 20_000_000);
        load.done.computed += 512;
        load.prefill_attended += 512 * 300;
        cluster.delta(&worker, &[], load, false);
    }
    let learned = cluster.longest_stillness(&worker);
    assert!(learned > Duration::from_secs(60), "{learned:?}");
}
