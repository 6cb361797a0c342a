//! Adopted implies that every granted unit was stored by this very grant, is what was sent, and was verified
//! after that: the notes' I3. The same holds for the leading blocks that are kept of a failed transfer.

use super::Violation;
use crate::proof::ledger::{GrantId, Ledger};

/// Checks the granted blocks below logical block `until`.
pub(crate) fn check(ledger: &Ledger, grant: GrantId, until: u32) -> Result<(), Violation> {
    for (logical, slot) in ledger.blocks(grant).iter().filter(|(logical, _)| *logical < until) {
        for (group, stored) in (0..).zip(&ledger.slots[*slot as usize].units) {
            let right = stored.is_some_and(|stored| {
                stored.by == grant && stored.logical == *logical && stored.intact && stored.verified
            });
            if !right {
                return Err(Violation::NotWhole { grant, logical: *logical, group });
            }
        }
    }
    Ok(())
}
