//! Real transports with the fault injector: every transfer ends with one verdict on each side in bounded time, the bytes are right
//! when it completed, and afterwards nobody can write any more.

mod support;

use estafette_kv_transfer::{Fault, FaultPlan, PushHandle, ReceiverEvent, When};
use estafette_types::{SequenceId, TransferId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{FIRST, PATIENCE, Pair, Setup, TransportChoice};

/// How long a transfer may take, on both sides.
const TIME: Duration = Duration::from_millis(1500);
/// The longest pause that is injected.
const PAUSE: Duration = Duration::from_millis(150);
const TRANSFERS: u32 = 4;
const BLOCKS: u32 = 4;
const SEEDS: u64 = 48;

async fn pair(transport: TransportChoice, plan: FaultPlan) -> Pair {
    let mut setup = Setup::new(transport);
    setup.faults = Some(plan);
    setup.part_bytes = 1;
    setup.receiver_limits.io_timeout = TIME;
    setup.receiver_limits.resend_units = 4;
    setup.run().await
}

fn begin(pair: &Pair, transfer: u32) -> PushHandle {
    let deadline = Instant::now() + TIME;
    let (id, sequence) = (TransferId(transfer.into()), SequenceId(transfer.into()));
    pair.receiver.expect(id, sequence, deadline).expect("room");
    let handle = pair.start(transfer.into(), &source(transfer), TIME);
    pair.ready_all(&handle, BLOCKS);
    handle
}

fn source(transfer: u32) -> Vec<u32> {
    (0..BLOCKS).map(|block| transfer * 16 + block * 3).collect()
}

fn target(transfer: u32) -> Vec<(u32, u32)> {
    (0..BLOCKS).map(|block| (block, transfer + block * 10)).collect()
}

/// All transfers at once; which of them completed.
async fn run(transport: TransportChoice, plan: FaultPlan) -> Vec<u32> {
    let context = format!("{transport:?}, {plan:?}");
    let mut pair = pair(transport, plan).await;
    for transfer in 0..TRANSFERS {
        begin(&pair, transfer).commit(FIRST);
    }
    let mut verdicts = BTreeMap::new();
    while verdicts.len() < TRANSFERS as usize {
        match pair.event().await {
            ReceiverEvent::GrantRequested { transfer, .. } => {
                // It may be over already.
                let _ = pair.grant(transfer.0, &target(transfer.0 as u32));
            }
            ReceiverEvent::Completed { transfer, .. } => {
                assert_eq!(verdicts.insert(transfer.0, true), None, "{context}");
                pair.assert_arrived(&source(transfer.0 as u32), &target(transfer.0 as u32));
            }
            ReceiverEvent::Failed { transfer, .. } => {
                assert_eq!(verdicts.insert(transfer.0, false), None, "{context}");
            }
        }
    }
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < TRANSFERS as usize {
        let outcome = pair.next_outcome().await;
        assert_eq!(outcomes.insert(outcome.transfer.0, outcome.result), None, "{context}");
    }
    drop(pair.pusher.take());
    for transfer in 0..TRANSFERS {
        let mut revocation = pair.receiver.revoke(TransferId(transfer.into()));
        assert!(revocation.wait(PATIENCE).await, "{context}: still writable");
    }
    assert!(pair.events.try_recv().is_err(), "{context}: one verdict");
    verdicts.into_iter().filter(|(_, completed)| *completed).map(|(id, _)| id as u32).collect()
}

/// Each fault, with the first frames of each kind.
async fn every_fault_alone(transport: TransportChoice) {
    let faults = [
        (Fault::Delay(PAUSE), true),
        (Fault::Reorder, true),
        (Fault::Repeat, true),
        (Fault::Drop, false),
        (Fault::Truncate, false),
        (Fault::FlipHeaderBit, false),
        (Fault::FlipBit, true),
        (Fault::Partition(PAUSE), true),
        (Fault::Kill, false),
    ];
    let mut runs = Vec::new();
    for (fault, harmless) in faults {
        for when in [When::Frame(0), When::Part(0), When::Part(7), When::Answer(0), When::Answer(5)]
        {
            let plan = FaultPlan::one(when, fault);
            runs.push(tokio::spawn(async move {
                let completed = run(transport, plan).await;
                if harmless {
                    assert_eq!(completed.len(), TRANSFERS as usize, "{fault:?} at {when:?}");
                }
            }));
        }
    }
    for run in runs {
        run.await.expect("it holds");
    }
}

async fn seeded_plans(transport: TransportChoice) {
    let runs: Vec<_> = (0..SEEDS)
        .map(|seed| tokio::spawn(run(transport, FaultPlan::seeded(seed, 3, 40, PAUSE))))
        .collect();
    let mut completed = 0;
    for run in runs {
        completed += run.await.expect("it holds").len();
    }
    let all = SEEDS as usize * TRANSFERS as usize;
    assert!((all / 5..all).contains(&completed), "some survive, some do not");
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::TransportChoice::Tcp).await; })*
        }
        mod shm {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::TransportChoice::Shm).await; })*
        }
    };
}

suite!(every_fault_alone, seeded_plans);
