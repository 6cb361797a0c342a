//! Who is to blame when an attempt fails, and what follows for them.

use crate::cluster::{Cluster, Excluded, WorkerKey};
use crate::error::RequestError;
use estafette_types::ErrorCode;

/// A worker to blame, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) worker: WorkerKey,
    pub(super) code: ErrorCode,
}

impl Fault {
    /// That nobody else goes near the worker, or near it for this request.
    pub(super) fn settle(self, cluster: &Cluster, excluded: &mut Excluded) {
        // A full queue is no fault: it is asked again when it says that it has room.
        if self.code == ErrorCode::Overloaded {
            cluster.refused(&self.worker);
        } else {
            excluded.add(self.worker);
        }
    }
}

/// The error that ended the attempt, and those to blame.
pub(super) type Blame = (RequestError, Vec<Fault>);

/// One worker is to blame.
pub(super) fn blame(error: RequestError, worker: &WorkerKey) -> Blame {
    let fault = Fault { worker: worker.clone(), code: error.code };
    (error, vec![fault])
}

/// Each worker for its own error; the one that no other worker can mend says most.
pub(super) fn blame_each(mut failures: Vec<(RequestError, WorkerKey)>) -> Result<(), Blame> {
    failures.sort_by_key(|(error, _)| error.code.is_retryable());
    let fault = |(error, worker): &(RequestError, WorkerKey)| blame(error.clone(), worker).1;
    let faults = failures.iter().flat_map(fault).collect();
    failures.into_iter().next().map_or(Ok(()), |(error, _)| Err((error, faults)))
}

#[cfg(test)]
mod tests;
