//! What is adopted or kept has, byte for byte, the content of its block of its prompt. The ledger says who
//! wrote; this says what is there.

use super::Violation;
use crate::proof::ledger::GrantId;

pub(crate) fn check(
    grant: GrantId,
    logical: u32,
    group: u32,
    found: &[u8],
    right: &[u8],
) -> Result<(), Violation> {
    if found == right { Ok(()) } else { Err(Violation::WrongBytes { grant, logical, group }) }
}
