use super::*;
use crate::cluster::explain::Fate;
use crate::cluster::registry::tests::load;
use crate::cluster::tests::{cluster, hear, join, place, request, slot};
use estafette_types::LoadRecord;
use tokio::task::JoinHandle;

#[tokio::test]
async fn who_waits_for_one_worker_holds_up_nobody_who_can_go_to_another() {
    let cluster = cluster();
    let (a, b) = (join(&cluster, "a", 10), join(&cluster, "b", 10));
    hear(&cluster, &b, 10, 1);
    let mut failed_on_a = Excluded::default();
    failed_on_a.add(a.clone());
    let waits = place(&cluster, request(20), failed_on_a, false).await;
    assert_eq!(
        slot(place(&cluster, request(20), Excluded::default(), false).await).await,
        Ok(a.slot)
    );
    assert!(!waits.is_finished());
    hear(&cluster, &b, 10, 0);
    assert_eq!(slot(waits).await, Ok(b.slot));
}

#[tokio::test]
async fn a_long_prompt_that_waits_for_the_large_worker_holds_up_no_short_one() {
    let cluster = cluster();
    let (small, large) = (join(&cluster, "small", 10), join(&cluster, "large", 50));
    hear(&cluster, &large, 50, 1);
    let long = place(&cluster, request(300), Excluded::default(), false).await;
    let short = place(&cluster, request(20), Excluded::default(), false).await;
    assert_eq!(slot(short).await, Ok(small.slot));
    hear(&cluster, &small, 10, 0);
    assert!(!long.is_finished());
    hear(&cluster, &large, 50, 0);
    assert_eq!(slot(long).await, Ok(large.slot));
}

#[tokio::test]
async fn of_two_that_wait_for_the_same_place_the_first_gets_it_and_a_newcomer_waits_behind() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 10);
    hear(&cluster, &worker, 10, 1);
    let first = place(&cluster, request(20), Excluded::default(), false).await;
    let second = place(&cluster, request(20), Excluded::default(), false).await;
    let refused = place(&cluster, request(20), Excluded::default(), false).await;
    assert_eq!(slot(refused).await, Err(ErrorCode::Overloaded), "the room is for two");
    // Room for one. It is the first one's, also before that one has been woken.
    cluster.lock().heard(&worker, &LoadRecord { waiting_sequences: 0, ..load() }, false);
    assert!(!cluster.lock().may_choose(None));
    assert_eq!(slot(first).await, Ok(worker.slot));
    // Its leg has ended, and that wakes the other one.
    assert_eq!(slot(second).await, Ok(worker.slot));
}

#[tokio::test]
async fn who_waits_for_a_worker_that_leaves_is_told_at_once() {
    let cluster = cluster();
    let (a, b) = (join(&cluster, "a", 10), join(&cluster, "b", 10));
    for worker in [&a, &b] {
        hear(&cluster, worker, 10, 1);
    }
    let usual = place(&cluster, request(20), Excluded::default(), false).await;
    let mut failed_on_a = Excluded::default();
    failed_on_a.add(a);
    let doomed = place(&cluster, request(20), failed_on_a, false).await;
    cluster.leave(&b);
    assert_eq!(slot(doomed).await, Err(ErrorCode::NoWorker));
    assert!(!usual.is_finished());
    usual.abort();
}

/// Refused before its body is read, and what `explain` says of it.
#[tokio::test]
async fn a_cluster_without_workers_or_with_a_full_room_is_closed_to_newcomers() {
    let cluster = cluster();
    let closed = || cluster.check_open().err().map(|error| error.code);
    let fate = || cluster.explain(&request(20)).fate;
    assert_eq!((closed(), fate()), (Some(ErrorCode::NoWorker), Fate::Refused));
    let worker = join(&cluster, "a", 10);
    assert_eq!((closed(), fate()), (None, Fate::Sent));
    hear(&cluster, &worker, 10, 1);
    assert_eq!((closed(), fate()), (None, Fate::Waits));
    let waiting = [
        place(&cluster, request(20), Excluded::default(), false).await,
        place(&cluster, request(20), Excluded::default(), false).await,
    ];
    assert_eq!((closed(), fate()), (Some(ErrorCode::Overloaded), Fate::Refused));
    assert_eq!(cluster.explain(&request(20)).waiting, 2);
    let begun = place(&cluster, request(20), Excluded::default(), true).await;
    assert!(!begun.is_finished(), "an answer that has begun waits all the same");
    begun.abort();
    waiting.iter().for_each(JoinHandle::abort);
}
