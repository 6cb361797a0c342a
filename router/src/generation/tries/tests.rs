use super::*;
use crate::cluster::WorkerKey;
use estafette_types::{Incarnation, WorkerId};

fn fault(code: ErrorCode) -> (RequestError, Vec<Fault>) {
    let worker = WorkerKey { slot: 0, id: WorkerId("w".into()), incarnation: Incarnation(1) };
    (RequestError::new(code, "it failed"), vec![Fault { worker, code }])
}

#[test]
fn an_answer_is_repaired_four_times_and_moves_as_often_as_workers_leave() {
    let mut tries = Tries::default();
    let (lost, lost_faults) = fault(ErrorCode::WorkerLost);
    let (leaves, leaving) = fault(ErrorCode::Draining);
    assert!(!tries.any());
    for _ in 0..5 {
        assert!(tries.again(&leaves, &leaving, || panic!("a move costs nothing of the budget")));
    }
    assert!(tries.any());
    for _ in 0..4 {
        assert!(tries.again(&lost, &lost_faults, || true));
    }
    assert!(!tries.again(&lost, &lost_faults, || panic!("it has had its share")));
}

#[test]
fn it_is_not_repaired_when_the_budget_is_spent_nor_when_that_would_change_nothing() {
    let mut tries = Tries::default();
    let (lost, faults) = fault(ErrorCode::WorkerLost);
    assert!(!tries.again(&lost, &faults, || false));
    for code in [ErrorCode::InvalidRequest, ErrorCode::DeadlineExceeded, ErrorCode::Cancelled] {
        let (error, faults) = fault(code);
        assert!(!tries.again(&error, &faults, || panic!("nothing is to be repaired")));
    }
    assert!(!tries.again(&lost, &[], || panic!("nobody is to blame")));
}
