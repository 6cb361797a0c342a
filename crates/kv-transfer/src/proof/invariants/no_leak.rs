//! Once the world is quiet and its timers ran out, every slot is free: the notes' I2.

use super::Violation;
use crate::proof::ledger::{Ledger, Owner};

pub(crate) fn check(ledger: &Ledger) -> Result<(), Violation> {
    let taken = (0..).zip(&ledger.slots).find(|(_, slot)| slot.owner != Owner::Nobody);
    match taken {
        Some((slot, taken)) => Err(Violation::Leak { slot, owner: taken.owner }),
        None => Ok(()),
    }
}
