use super::*;
use estafette_types::{Incarnation, WorkerId};

fn worker(slot: u32) -> WorkerKey {
    WorkerKey { slot, id: WorkerId(format!("w-{slot}")), incarnation: Incarnation(1) }
}

fn failed(code: ErrorCode, slot: u32) -> (RequestError, WorkerKey) {
    (RequestError::new(code, "it failed"), worker(slot))
}

#[test]
fn when_both_legs_fail_each_worker_is_blamed_for_its_own_error() {
    let failures = vec![failed(ErrorCode::Overloaded, 0), failed(ErrorCode::WorkerLost, 1)];
    let (error, faults) = blame_each(failures).unwrap_err();
    assert_eq!(error.code, ErrorCode::Overloaded);
    let codes: Vec<_> = faults.iter().map(|fault| (fault.worker.slot, fault.code)).collect();
    assert_eq!(codes, [(0, ErrorCode::Overloaded), (1, ErrorCode::WorkerLost)]);
}

#[test]
fn an_error_that_no_other_worker_mends_is_the_one_that_is_told() {
    let failures = vec![failed(ErrorCode::WorkerLost, 0), failed(ErrorCode::InvalidRequest, 1)];
    let (error, faults) = blame_each(failures).unwrap_err();
    assert_eq!((error.code, faults.len()), (ErrorCode::InvalidRequest, 2));
    assert_eq!(blame_each(Vec::new()), Ok(()));
}
