use super::*;
use estafette_routing::QueueOrder;

pub(in crate::cluster) fn info(id: &str, incarnation: u64, role: v1::Role) -> v1::WorkerInfo {
    v1::WorkerInfo {
        worker_id: id.into(),
        incarnation,
        role: role.into(),
        address: "127.0.0.1:1".into(),
        kv: Some(v1::KvEndpoint::default()),
        pool: Some(v1::PoolIdentity { block_size: 16, max_model_len: 100, ..Default::default() }),
        max_num_seqs: 4,
        max_waiting: 4,
        max_num_batched_tokens: 512,
    }
}

pub(in crate::cluster) fn load() -> LoadRecord {
    LoadRecord { free_blocks: 10, total_blocks: 10, ..LoadRecord::default() }
}

fn registry() -> Registry {
    Registry::new(WaitingRoom::new(QueueOrder::Fcfs, 10), SplitMix64::new(1))
}

#[tokio::test]
async fn a_worker_is_chosen_once_its_state_is_known_and_not_while_it_drains() {
    let mut registry = registry();
    let worker = registry.join(info("a", 1, v1::Role::Decode)).unwrap();
    assert_eq!(registry.counts().decode, 0);
    assert!(registry.heard(&worker, &load(), false));
    assert_eq!(registry.counts().decode, 1);
    assert!(!registry.heard(&worker, &load(), false), "nothing new");
    assert!(registry.heard(&worker, &load(), true));
    assert_eq!(registry.counts().decode, 0);
}

#[tokio::test]
async fn a_restarted_worker_replaces_its_predecessor_and_late_words_of_it_change_nothing() {
    let mut registry = registry();
    let old = registry.join(info("a", 1, v1::Role::Decode)).unwrap();
    registry.heard(&old, &load(), false);
    let new = registry.join(info("a", 2, v1::Role::Decode)).unwrap();
    assert_ne!(old.slot, new.slot, "the index may still name the old one");
    assert_eq!(registry.counts().decode, 0);
    assert!(!registry.heard(&old, &load(), false));
    assert_eq!(registry.counts().decode, 0);
    registry.heard(&new, &load(), false);
    registry.leave(&old);
    registry.free(&old);
    assert_eq!(registry.counts().decode, 1);
    let third = registry.join(info("b", 3, v1::Role::Decode)).unwrap();
    assert_eq!(third.slot, old.slot, "a free slot is used again");
    registry.free(&old);
    assert!(registry.member(&third).is_some());
}

#[tokio::test]
async fn workers_that_would_answer_differently_are_refused() {
    let mut registry = registry();
    registry.join(info("a", 1, v1::Role::Decode)).unwrap();
    let mut other = info("b", 2, v1::Role::Prefill);
    other.pool.as_mut().unwrap().numerics_id = "other".into();
    assert!(registry.join(other).unwrap_err().message().contains("`numerics_id` differs"));
    assert!(registry.join(info("", 2, v1::Role::Prefill)).is_err());
    assert!(registry.join(info("c", 2, v1::Role::Unspecified)).is_err());
}

#[tokio::test]
async fn a_newcomer_that_is_refused_does_not_cost_the_worker_whose_name_it_has() {
    let mut registry = registry();
    let worker = registry.join(info("a", 1, v1::Role::Decode)).unwrap();
    registry.join(info("b", 2, v1::Role::Prefill)).unwrap();
    let mut other = info("a", 3, v1::Role::Decode);
    other.pool.as_mut().unwrap().numerics_id = "other".into();
    assert!(registry.join(other).is_err());
    assert!(registry.member(&worker).is_some());
}

#[tokio::test]
async fn the_shape_is_that_of_the_smallest_worker_that_is_there() {
    let mut registry = registry();
    assert_eq!(registry.shape(), None);
    registry.join(info("a", 1, v1::Role::Decode)).unwrap();
    let mut small = info("b", 2, v1::Role::Decode);
    small.pool.as_mut().unwrap().max_model_len = 50;
    let small = registry.join(small).unwrap();
    assert_eq!(registry.shape(), Some(Shape { block_size: 16, max_model_len: 50 }));
    registry.leave(&small);
    assert_eq!(registry.shape(), Some(Shape { block_size: 16, max_model_len: 100 }));
}
