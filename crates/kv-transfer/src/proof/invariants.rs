//! What must hold in every state, one property a file. Each is checked against synthetic wrong states too.

pub(crate) mod foreign_store;
pub(crate) mod no_leak;
pub(crate) mod one_verdict;
pub(crate) mod right_bytes;
pub(crate) mod source_pinned;
#[cfg(test)]
mod tests;
pub(crate) mod whole;

use super::ledger::{GrantId, Owner};

/// An invariant that does not hold, with what is needed to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A store into a slot that the writer does not have.
    ForeignStore { slot: u32, writer: GrantId, owner: Option<Owner> },
    /// A block is used that is not what was sent.
    NotWhole { grant: GrantId, logical: u32, group: u32 },
    /// A block holds other bytes than those that belong there.
    WrongBytes { grant: GrantId, logical: u32, group: u32 },
    /// A slot that nobody gives back.
    Leak { slot: u32, owner: Owner },
    /// One side of a transfer has not exactly one end.
    Verdicts { side: one_verdict::Side, which: u64, verdicts: usize },
    /// A source block was read although its transfer had ended.
    ReadAfterOutcome { push: u64 },
    /// A state machine took an honest peer for a dishonest one.
    Refused(String),
}
