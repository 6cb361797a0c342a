//! How often an answer is tried again.

use super::fault::Fault;
use crate::error::RequestError;
use estafette_types::ErrorCode;

/// How often an answer is repaired when workers fail it.
const REPAIRS_MAX: u32 = 4;
/// How often it moves because its worker leaves in order: nobody failed, and each worker leaves once.
const MOVES_MAX: u32 = 32;

/// The tries of one answer so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    repairs: u32,
    moves: u32,
}

impl Tries {
    /// Whether other workers may do what these have not. `withdraw` takes one repair out of the budget for all answers.
    pub(super) fn again(
        &mut self,
        error: &RequestError,
        faults: &[Fault],
        withdraw: impl FnOnce() -> bool,
    ) -> bool {
        if faults.is_empty()
            || !error.code.is_retryable()
            || error.code == ErrorCode::DeadlineExceeded
        {
            return false;
        }
        if error.code == ErrorCode::Draining {
            self.moves += 1;
            return self.moves <= MOVES_MAX;
        }
        self.repairs += 1;
        self.repairs <= REPAIRS_MAX && withdraw()
    }

    /// Something of the answer was sent to workers before.
    pub(super) fn any(self) -> bool {
        self.repairs + self.moves > 0
    }
}

#[cfg(test)]
mod tests;
