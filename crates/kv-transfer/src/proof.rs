//! How the hand-off is proved: its two state machines in worlds that can go wrong in every way.
//!
//! `model` walks through every order of events of a small world, `simulation` through random runs of large
//! ones, with real bytes. Both write down in a [`ledger`] who owns each slot of the receiver's pool and who
//! stored what, and hold it against the same invariants, one file each:
//!
//! | file | property |
//! |---|---|
//! | `foreign_store` | nothing is stored into a slot that its owner did not grant to the writer |
//! | `whole` | what is adopted, or kept of a failed transfer, was stored by that transfer and verified |
//! | `no_leak` | in the end every slot is free |
//! | `one_verdict` | each side of each transfer is told its end exactly once |
//! | `right_bytes` | what is adopted or kept has the bytes of its prompt |
//! | `source_pinned` | no source block is read after the outcome |

pub(crate) mod invariants;
pub(crate) mod ledger;
#[cfg(test)]
mod model;
pub(crate) mod simulation;
