use crate::cluster::tests::{cluster, join};
use estafette_types::WorkerId;
use std::time::Duration;
use tokio::time::timeout;

fn words(cluster: &crate::cluster::Cluster, id: &str) -> String {
    let unknown = cluster.named(&WorkerId(id.into())).map(|named| named.worker).unwrap_err();
    unknown.to_status().message().to_owned()
}

#[tokio::test]
async fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let cluster = cluster();
    assert_eq!(words(&cluster, "c"), "no worker is named `c`: no worker has joined");
    join(&cluster, "b", 10);
    join(&cluster, "a", 10);
    assert_eq!(words(&cluster, "c"), "no worker is named `c`: there are `a`, `b`");
}

#[tokio::test]
async fn who_waits_for_a_worker_to_leave_hears_when_it_has_and_not_when_it_is_lost_for_a_while() {
    let cluster = cluster();
    let worker = join(&cluster, "a", 10);
    let named = cluster.named(&worker.id).unwrap();
    let mut left = std::pin::pin!(named.lost.left());
    cluster.lost(&worker);
    assert!(timeout(Duration::from_millis(50), &mut left).await.is_err());
    cluster.leave(&worker);
    left.await;
}
