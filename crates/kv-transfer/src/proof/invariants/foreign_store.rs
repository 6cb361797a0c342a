//! No store into a slot whose owner did not grant it to the writer's transfer: the notes' I1.
//! vllm #32255, sglang #24527: an abort gave slots back while they could still be written.

use super::Violation;
use crate::proof::ledger::{GrantId, Owner, Slot};

/// `granted`: the writer's grant names this slot for this block.
pub(crate) fn check(
    slot: Option<&Slot>,
    at: u32,
    writer: GrantId,
    granted: bool,
) -> Result<(), Violation> {
    let owner = slot.map(|slot| slot.owner);
    if granted && owner == Some(Owner::Grant(writer)) {
        return Ok(());
    }
    Err(Violation::ForeignStore { slot: at, writer, owner })
}
