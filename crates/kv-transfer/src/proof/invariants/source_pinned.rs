//! No source block is read after the outcome of its push: the notes' I4.

use super::Violation;

/// A part of `push` is read from its source; `over`: its outcome has been told.
pub(crate) fn check(push: u64, over: bool) -> Result<(), Violation> {
    if over { Err(Violation::ReadAfterOutcome { push }) } else { Ok(()) }
}
