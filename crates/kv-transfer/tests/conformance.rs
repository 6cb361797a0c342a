//! One suite for every transport: what is granted arrives, nothing else changes, and every failure has its
//! name on both sides.

mod support;

use estafette_kv_transfer::{Fault, FaultPlan, HandoffError, ReceiverEvent, When};
use estafette_types::{SequenceId, TransferId};
use std::time::{Duration, Instant};
use support::{FIRST, PATIENCE, Pair, Setup, TransportChoice, layout};

/// Each test for every transport.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::TransportChoice::Tcp).await; })*
        }
        mod tls {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::TransportChoice::Tls).await; })*
        }
        mod shm {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::TransportChoice::Shm).await; })*
        }
    };
}

suite!(
    moves_exactly_the_granted_blocks,
    units_may_be_ready_before_and_after_the_grant,
    nothing_to_move_still_completes,
    many_at_once_on_one_connection,
    sender_aborts_midway,
    dropped_handle_aborts,
    receiver_revokes_midway,
    sender_dies_midway,
    receiver_dies_midway,
    wrong_layout_names_the_field,
    stale_incarnation_is_refused,
    refused_grant_reaches_the_sender,
    late_decode_leg_is_waited_for,
    missing_decode_leg_is_refused,
    expires_on_both_sides,
    damaged_and_lost_units_alone_are_sent_again,
    too_much_damage_ends_both_and_leaves_what_is_verified,
    leading_blocks_that_are_whole_are_told,
    repeated_part_is_harmless,
    broken_connection_ends_both,
    commit_before_ready_is_an_error,
    invalid_grants_change_nothing,
);

const TABLE: [u32; 6] = [9, 3, 4, 5, 60, 1];
const GRANT: [(u32, u32); 4] = [(1, 20), (2, 21), (4, 0), (5, 39)];

async fn moves_exactly_the_granted_blocks(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    let before = pair.target_bytes();
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    assert_eq!(pair.asked().await, 1);
    pair.grant(1, &GRANT).expect("granted");
    pair.ready_all(&handle, 6);
    handle.commit(FIRST);
    assert_eq!(pair.completed().await, 1);
    let stats = pair.outcome().await.expect("pushed");
    assert_eq!(stats.bytes, 4 * pair.layout.kv.block_bytes() as u64);
    pair.assert_moved(&before, &TABLE, &GRANT);
    assert!(pair.receiver.revoke(TransferId(1)).is_safe());
}

async fn units_may_be_ready_before_and_after_the_grant(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    let before = pair.target_bytes();
    let handle = pair.start(1, &TABLE, PATIENCE);
    handle.ready(0, 0..2);
    handle.ready(0, 2..6);
    handle.ready(2, 0..5);
    pair.expect(1);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    tokio::time::sleep(Duration::from_millis(30)).await;
    handle.ready(2, 5..6);
    handle.ready(1, 0..6);
    handle.ready(1, 0..6);
    tokio::time::sleep(Duration::from_millis(30)).await;
    handle.commit(FIRST);
    pair.completed().await;
    let stats = pair.outcome().await.expect("pushed");
    assert_eq!(stats.bytes_before_commit, stats.bytes, "all of it had left before the commit");
    assert_eq!(stats.bytes, 4 * pair.layout.kv.block_bytes() as u64, "each unit once");
    pair.assert_moved(&before, &TABLE, &GRANT);
}

async fn nothing_to_move_still_completes(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    let before = pair.target_bytes();
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &[]).expect("granted");
    pair.ready_all(&handle, 6);
    handle.commit(FIRST);
    pair.completed().await;
    assert_eq!(pair.outcome().await.expect("pushed").bytes, 0);
    pair.assert_moved(&before, &TABLE, &[]);
}

async fn many_at_once_on_one_connection(transport: TransportChoice) {
    let mut setup = Setup::new(transport);
    setup.receiver_limits.credit_bytes = 20 << 10;
    let mut pair = setup.run().await;
    let before = pair.target_bytes();
    let handles: Vec<_> = (0..20_u32)
        .map(|i| {
            pair.expect(i.into());
            pair.start(i.into(), &[3 * i, 3 * i + 2], PATIENCE)
        })
        .collect();
    let mut table = vec![0; 40];
    let mut all = Vec::new();
    for _ in 0..20 {
        let id = pair.asked().await;
        let i = id as u32;
        let blocks = [(0, 39 - i), (1, i)];
        table[2 * i as usize..2 * i as usize + 2].copy_from_slice(&[3 * i, 3 * i + 2]);
        all.extend(blocks.map(|(logical, physical)| (2 * i + logical, physical)));
        pair.grant(id, &blocks).expect("granted");
    }
    for handle in handles {
        pair.ready_all(&handle, 2);
        handle.commit(FIRST);
    }
    for _ in 0..20 {
        pair.completed().await;
        pair.outcome().await.expect("pushed");
    }
    pair.assert_moved(&before, &table, &all);
}

async fn sender_aborts_midway(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    handle.ready(0, 0..6);
    handle.abort();
    assert_eq!(pair.outcome().await, Err(HandoffError::Aborted));
    assert_eq!(pair.failed().await, HandoffError::Aborted);
    assert!(pair.receiver.revoke(TransferId(1)).is_safe());
}

async fn dropped_handle_aborts(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    drop(pair.start(1, &TABLE, PATIENCE));
    assert_eq!(pair.outcome().await, Err(HandoffError::Aborted));
}

async fn receiver_revokes_midway(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    handle.ready(0, 0..6);
    let mut revocation = pair.receiver.revoke(TransferId(1));
    assert!(revocation.wait(PATIENCE).await, "the writer answers");
    assert!(revocation.is_safe());
    let before = pair.target_bytes();
    pair.ready_all(&handle, 6);
    assert_eq!(pair.outcome().await, Err(HandoffError::Aborted));
    assert!(pair.target_bytes() == before, "nothing is written after the fence");
    assert_eq!(pair.grant(1, &GRANT), Err(HandoffError::Aborted));
}

async fn sender_dies_midway(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    handle.ready(0, 0..6);
    pair.pusher = None;
    drop(handle);
    assert!(matches!(pair.failed().await, HandoffError::Aborted | HandoffError::PeerGone(_)));
    assert!(pair.receiver.revoke(TransferId(1)).wait(PATIENCE).await);
}

async fn receiver_dies_midway(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    handle.ready(0, 0..6);
    let support::Pair { receiver, mut outcomes, .. } = pair;
    drop(receiver);
    let outcome = tokio::time::timeout(PATIENCE, outcomes.recv()).await.expect("in time");
    let result = outcome.expect("open").result;
    assert!(matches!(result, Err(HandoffError::PeerGone(_))), "{result:?}");
}

async fn wrong_layout_names_the_field(transport: TransportChoice) {
    for (field, change) in [
        ("head_dim", (|l| l.kv.head_dim = 4) as fn(&mut estafette_kv_transfer::HandoffLayout)),
        ("layers_per_group", |l| l.layers_per_group = 1),
        ("model_digest", |l| l.model_digest[0] = 9),
        ("numerics_id", |l| l.numerics_id = "test/2".into()),
    ] {
        let mut setup = Setup::new(transport);
        change(&mut setup.sender_layout);
        let mut pair = setup.run().await;
        pair.expect(1);
        let _handle = pair.start(1, &TABLE, PATIENCE);
        let expected = HandoffError::LayoutMismatch { field: field.into() };
        assert_eq!(pair.outcome().await, Err(expected));
    }
}

async fn stale_incarnation_is_refused(transport: TransportChoice) {
    let mut setup = Setup::new(transport);
    setup.stale = true;
    let mut pair = setup.run().await;
    let _handle = pair.start(1, &TABLE, PATIENCE);
    assert_eq!(pair.outcome().await, Err(HandoffError::StalePeer));
    pair.endpoint.incarnation = 11;
    pair.expect(2);
    let _handle = pair.start(2, &TABLE, PATIENCE);
    assert_eq!(pair.asked().await, 2, "the right incarnation is served");
}

async fn refused_grant_reaches_the_sender(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let _handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.receiver.refuse(TransferId(1), &HandoffError::OutOfBlocks);
    assert_eq!(pair.outcome().await, Err(HandoffError::OutOfBlocks));
}

async fn late_decode_leg_is_waited_for(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    let _handle = pair.start(1, &TABLE, PATIENCE);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pair.events.try_recv().is_err(), "nobody is asked yet");
    pair.expect(1);
    assert_eq!(pair.asked().await, 1);
}

async fn missing_decode_leg_is_refused(transport: TransportChoice) {
    let mut setup = Setup::new(transport);
    setup.receiver_limits.unknown_wait = Duration::from_millis(50);
    let mut pair = setup.run().await;
    let _handle = pair.start(1, &TABLE, PATIENCE);
    assert!(matches!(pair.outcome().await, Err(HandoffError::Refused(_))));
}

async fn expires_on_both_sides(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, Duration::from_millis(150));
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    handle.ready(0, 0..6);
    assert_eq!(pair.outcome().await, Err(HandoffError::Expired));
    assert_eq!(pair.failed().await, HandoffError::Expired);
    assert!(pair.receiver.revoke(TransferId(1)).wait(PATIENCE).await);
    // No push comes at all.
    let soon = Instant::now() + Duration::from_millis(50);
    pair.receiver.expect(TransferId(2), SequenceId(2), soon).expect("room");
    assert_eq!(pair.failed().await, HandoffError::Expired);
}

/// Pushes everything, one unit a part; what both sides say.
async fn push_with(
    transport: TransportChoice,
    when: When,
    fault: Fault,
    resend_units: usize,
) -> (Pair, Vec<u8>, u64) {
    let mut setup = Setup::new(transport);
    setup.faults = Some(FaultPlan::one(when, fault));
    setup.receiver_limits.resend_units = resend_units;
    setup.part_bytes = 1;
    let mut pair = setup.run().await;
    let before = pair.target_bytes();
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    pair.ready_all(&handle, 6);
    handle.commit(FIRST);
    let units = GRANT.len() as u64 * u64::from(pair.layout.groups());
    (pair, before, units)
}

async fn damaged_and_lost_units_alone_are_sent_again(transport: TransportChoice) {
    for fault in [Fault::FlipBit, Fault::Drop] {
        let (mut pair, before, _) = push_with(transport, When::Part(1), fault, 1).await;
        pair.completed().await;
        let stats = pair.outcome().await.expect("pushed");
        assert_eq!(stats.units_again, 1, "{fault:?}");
        pair.assert_moved(&before, &TABLE, &GRANT);
    }
}

/// Part 1 is the unit of group 0 in block 2, the second one that is granted.
async fn too_much_damage_ends_both_and_leaves_what_is_verified(transport: TransportChoice) {
    let (mut pair, ..) = push_with(transport, When::Part(1), Fault::FlipBit, 0).await;
    let expected = HandoffError::ChecksumMismatch { block: 2, group: 0 };
    let (error, verified) = pair.failed_with().await;
    assert_eq!(
        (error, verified),
        (expected.clone(), 1),
        "block 0 was not granted, block 1 is not whole"
    );
    assert_eq!(pair.outcome().await, Err(expected));
    assert!(pair.receiver.revoke(TransferId(1)).wait(PATIENCE).await);
}

async fn leading_blocks_that_are_whole_are_told(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    pair.ready_all(&handle, 3);
    handle.ready(0, 3..6);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(pair.pusher.take());
    drop(handle);
    let (_, verified) = pair.failed_with().await;
    assert_eq!(verified, 4, "blocks 1 and 2 are whole, 0 and 3 are not granted, 4 is not whole");
    assert!(pair.receiver.revoke(TransferId(1)).wait(PATIENCE).await);
}

async fn repeated_part_is_harmless(transport: TransportChoice) {
    let (mut pair, before, units) = push_with(transport, When::Part(1), Fault::Repeat, 0).await;
    pair.completed().await;
    let stats = pair.outcome().await.expect("pushed");
    assert_eq!((stats.parts, stats.units_again), (units, 0));
    pair.assert_moved(&before, &TABLE, &GRANT);
}

async fn broken_connection_ends_both(transport: TransportChoice) {
    let (mut pair, ..) = push_with(transport, When::Part(1), Fault::Kill, 0).await;
    assert!(matches!(pair.outcome().await, Err(HandoffError::PeerGone(_))));
    assert!(matches!(pair.failed().await, HandoffError::PeerGone(_)));
    assert!(pair.receiver.revoke(TransferId(1)).wait(PATIENCE).await, "nobody can write any more");
}

async fn commit_before_ready_is_an_error(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    pair.grant(1, &GRANT).expect("granted");
    handle.ready(0, 0..6);
    handle.commit(FIRST);
    assert!(matches!(pair.outcome().await, Err(HandoffError::Protocol(_))));
    assert!(matches!(pair.event().await, ReceiverEvent::Failed { .. }));
}

async fn invalid_grants_change_nothing(transport: TransportChoice) {
    let mut pair = Setup::new(transport).run().await;
    assert_eq!(pair.grant(1, &GRANT), Err(HandoffError::Aborted), "unknown");
    pair.expect(1);
    let handle = pair.start(1, &TABLE, PATIENCE);
    pair.asked().await;
    for wrong in [[(0, 1), (0, 2)], [(6, 1), (0, 2)], [(0, 40), (1, 2)], [(0, 3), (1, 3)]] {
        assert!(pair.grant(1, &wrong).is_err(), "{wrong:?}");
    }
    pair.grant(1, &GRANT).expect("granted");
    pair.ready_all(&handle, 6);
    handle.commit(FIRST);
    pair.completed().await;
    assert_eq!(layout(40), pair.layout);
}
