use super::*;
use crate::sketch::{LEG, SLOT, counts, record};
use proptest::prelude::*;
use std::collections::BTreeMap as Map;

#[test]
fn a_leg_is_pending_until_a_record_contains_it_and_live_until_it_ends() {
    let mut receipts = Receipts::new();
    let receipt = receipts.dispatched(SLOT, LEG);
    let expected = Pending { sequences: 1, prefill_tokens: 100, context_tokens: 120 };
    assert_eq!(receipts.pending(SLOT), expected);
    assert_eq!(receipts.pending(SLOT + 1), Pending::default());
    receipts.on_load(SLOT, &record(1));
    assert_eq!(counts(&receipts), (0, 1));
    receipts.finished(receipt);
    assert_eq!(counts(&receipts), (0, 0));
}

/// The first token of a new leg can overtake the record that contains it.
#[test]
fn the_first_event_settles_a_leg_and_the_late_record_settles_no_other() {
    let mut receipts = Receipts::new();
    let _older = receipts.dispatched(SLOT, LEG);
    let newer = receipts.dispatched(SLOT, LEG);
    receipts.taken_in(&newer);
    receipts.taken_in(&newer);
    receipts.on_load(SLOT, &record(1));
    assert_eq!(counts(&receipts), (1, 2));
}

/// A worker that really takes legs in, computes and ends them, with messages that come late: each of the three streams
/// (dispatches, records, ends) keeps its own order and no other.
#[derive(Debug, Default)]
struct Worker {
    on_the_way: Vec<u64>,
    inside: Vec<u64>,
    records: Vec<u64>,
    ended: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Dispatch,
    TakeIn,
    End,
    Publish,
    HearRecord,
    HearEnd,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Dispatch),
        3 => Just(Op::TakeIn),
        2 => Just(Op::End),
        3 => Just(Op::Publish),
        3 => Just(Op::HearRecord),
        2 => Just(Op::HearEnd),
    ]
}

fn first(queue: &mut Vec<u64>) -> Option<u64> {
    (!queue.is_empty()).then(|| queue.remove(0))
}

fn step(worker: &mut Worker, receipts: &mut Receipts, legs: &mut Map<u64, Receipt>, op: Op) {
    match op {
        Op::Dispatch => {
            let receipt = receipts.dispatched(SLOT, LEG);
            worker.on_the_way.push(receipt.number);
            legs.insert(receipt.number, receipt);
        }
        Op::TakeIn => worker.inside.extend(first(&mut worker.on_the_way)),
        Op::End => worker.ended.extend(first(&mut worker.inside)),
        Op::Publish => worker.records.push(worker.inside.len() as u64),
        Op::HearRecord => {
            if let Some(sequences) = first(&mut worker.records) {
                receipts.on_load(SLOT, &record(sequences));
            }
        }
        Op::HearEnd => {
            let receipt = first(&mut worker.ended).and_then(|number| legs.remove(&number));
            if let Some(receipt) = receipt {
                receipts.finished(receipt);
            }
        }
    }
}

proptest! {
    #[test]
    fn counts_hold_at_every_moment_and_return_to_zero(
        ops in proptest::collection::vec(op(), 0..80),
    ) {
        let (mut worker, mut receipts) = (Worker::default(), Receipts::new());
        let mut legs = Map::new();
        for op in ops {
            step(&mut worker, &mut receipts, &mut legs, op);
            prop_assert_eq!(receipts.live(SLOT), legs.len() as u64);
            let Pending { sequences, prefill_tokens, context_tokens } = receipts.pending(SLOT);
            prop_assert!(sequences <= legs.len() as u64);
            prop_assert_eq!((prefill_tokens, context_tokens), (sequences * 100, sequences * 120));
        }
        // All ends are heard, then a record that is made now: pending is what the worker has not got.
        while !worker.ended.is_empty() {
            step(&mut worker, &mut receipts, &mut legs, Op::HearEnd);
        }
        receipts.on_load(SLOT, &record(worker.inside.len() as u64));
        prop_assert!(receipts.pending(SLOT).sequences <= worker.on_the_way.len() as u64);
        while let Some((_, receipt)) = legs.pop_first() {
            receipts.finished(receipt);
        }
        prop_assert_eq!(counts(&receipts), (0, 0));
    }
}
