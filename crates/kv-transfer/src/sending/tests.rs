//! What the sender does alone: credits, parts, and answers to messages about what it does not know.

use super::*;
use crate::BlockRun;
use crate::message::PART_UNITS_MAX;
use estafette_kernels::KvLayout;

const T: TransferId = TransferId(1);
const FIRST: FirstToken = FirstToken { token: 1, logprob: None };

fn sending(credit_units: u64, part_units: usize) -> Sending {
    let kv = KvLayout { num_blocks: 32, block_size: 1, layers: 3, kv_heads: 1, head_dim: 1 };
    let layout = HandoffLayout {
        kv,
        layers_per_group: 1,
        model_digest: Vec::new(),
        numerics_id: String::new(),
    };
    let unit = layout.unit_bytes(0);
    let window = Window {
        credit: credit_units * unit as u64,
        part: part_units * unit,
        units: PART_UNITS_MAX,
        pool_blocks: 32,
    };
    Sending::new(layout, window)
}

fn grant(first_logical: u32, count: u32) -> Message {
    let runs = vec![BlockRun { first_logical, first_physical: 10, count }];
    let ttl = Duration::from_secs(9);
    Message::Grant { transfer: T, attempt: 1, epoch: 3, runs, units: 3 * count, ttl }
}

fn started(now: Instant, credit_units: u64, part_units: usize) -> Sending {
    let mut sending = sending(credit_units, part_units);
    let table = (0..8).map(BlockId).collect();
    sending.start(now, T, table, now + Duration::from_secs(10));
    assert!(matches!(sending.poll_action(), Some(SendAction::Message(Message::Push { .. }))));
    sending
}

fn parts(sending: &mut Sending) -> Vec<(u32, u32, usize)> {
    let mut parts = Vec::new();
    while let Some(action) = sending.poll_action() {
        if let SendAction::Part(plan) = action {
            parts.push((plan.group, plan.first_block, plan.blocks.len()));
        }
    }
    parts
}

#[test]
fn nothing_flows_without_a_grant() {
    let mut sending = started(Instant::now(), 100, 4);
    sending.ready(T, 0, 0..8);
    assert!(sending.poll_action().is_none());
}

#[test]
fn ready_units_flow_in_parts_of_granted_runs() {
    let now = Instant::now();
    let mut sending = started(now, 100, 4);
    sending.ready(T, 1, 0..8);
    sending.on_message(now, grant(1, 6)).expect("valid");
    assert_eq!(parts(&mut sending), [(1, 1, 4), (1, 5, 2)]);
    sending.ready(T, 1, 0..8);
    assert_eq!(parts(&mut sending), [], "each unit once");
    sending.ready(T, 7, 0..8);
    sending.ready(T, 0, 6..900);
    assert_eq!(parts(&mut sending), [(0, 6, 1)], "unknown groups and blocks are ignored");
}

#[test]
fn credit_bounds_what_is_in_flight() {
    let now = Instant::now();
    let mut sending = started(now, 5, 4);
    sending.ready(T, 0, 0..8);
    sending.on_message(now, grant(0, 8)).expect("valid");
    assert_eq!(parts(&mut sending), [(0, 0, 4)]);
    let unit = sending.layout.unit_bytes(0) as u64;
    sending.on_message(now, Message::Ack { bytes: 4 * unit }).expect("valid");
    assert_eq!(parts(&mut sending), [(0, 4, 4)]);
}

#[test]
fn done_before_the_commit_changes_nothing() {
    let now = Instant::now();
    let mut sending = started(now, 100, 100);
    sending.on_message(now, grant(0, 1)).expect("valid");
    sending.on_message(now, Message::Done { transfer: T, epoch: 3 }).expect("ignored");
    assert!(sending.poll_action().is_none());
    for group in 0..3 {
        sending.ready(T, group, 0..1);
    }
    sending.commit(T, FIRST);
    assert_eq!(parts(&mut sending).len(), 3);
    sending.on_message(now, Message::Done { transfer: T, epoch: 2 }).expect("ignored");
    assert!(sending.poll_action().is_none(), "an old epoch is not the end");
    sending.on_message(now, Message::Done { transfer: T, epoch: 3 }).expect("valid");
    assert!(matches!(sending.poll_action(), Some(SendAction::Outcome(T, Ok(_)))));
}

#[test]
fn unknown_transfers_are_answered_with_stopped() {
    let now = Instant::now();
    let mut sending = sending(1, 1);
    sending.on_message(now, grant(0, 1)).expect("answered");
    let failed = Message::Failed { transfer: T, attempt: 8, error: HandoffError::Aborted };
    sending.on_message(now, failed).expect("answered");
    for expected in [1, 8] {
        let Some(SendAction::Message(Message::Stopped { attempt, .. })) = sending.poll_action()
        else {
            panic!("not answered")
        };
        assert_eq!(attempt, expected);
    }
}

#[test]
fn grants_outside_prompt_or_pool_break_the_connection() {
    for (logical, physical, count, units) in
        [(7, 0, 2, 6), (0, 31, 2, 6), (0, 0, 0, 0), (0, 0, 2, 5), (u32::MAX, 0, 2, 6)]
    {
        let now = Instant::now();
        let mut sending = started(now, 1, 1);
        let runs = vec![BlockRun { first_logical: logical, first_physical: physical, count }];
        let ttl = Duration::from_secs(1);
        let grant = Message::Grant { transfer: T, attempt: 1, epoch: 1, runs, units, ttl };
        assert!(matches!(sending.on_message(now, grant), Err(HandoffError::Protocol(_))));
    }
}

#[test]
fn the_grant_outlives_neither_its_time_nor_the_deadline() {
    let now = Instant::now();
    let mut sending = started(now, 1, 1);
    sending.on_message(now, grant(0, 1)).expect("valid");
    assert_eq!(sending.next_wakeup(), Some(now + Duration::from_secs(9)));
    sending.on_time(now + Duration::from_secs(9));
    assert!(matches!(
        sending.poll_action(),
        Some(SendAction::Message(Message::Stopped { attempt: 1, .. }))
    ));
    let expired = sending.poll_action();
    assert!(matches!(expired, Some(SendAction::Outcome(T, Err(HandoffError::Expired)))));
}
