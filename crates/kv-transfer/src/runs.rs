//! Runs of blocks: neighbours in the prompt that are neighbours in the pool travel as one entry.

use crate::HandoffError;
use estafette_types::BlockId;
use std::collections::BTreeMap;

/// Logical blocks `first_logical..+count` lie in physical blocks `first_physical..+count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRun {
    /// Index in the prompt.
    pub first_logical: u32,
    /// Block of the receiver's pool.
    pub first_physical: u32,
    /// Blocks; at least 1.
    pub count: u32,
}

/// Granted blocks by logical index.
pub(crate) type Destinations = BTreeMap<u32, BlockId>;

/// `blocks` as the fewest runs.
pub(crate) fn coalesce(blocks: &Destinations) -> Vec<BlockRun> {
    let mut runs: Vec<BlockRun> = Vec::new();
    for (&logical, &BlockId(physical)) in blocks {
        match runs.last_mut() {
            Some(run)
                if run.first_logical + run.count == logical
                    && run.first_physical + run.count == physical =>
            {
                run.count += 1;
            }
            _ => runs.push(BlockRun { first_logical: logical, first_physical: physical, count: 1 }),
        }
    }
    runs
}

/// The blocks of `runs`, checked against the prompt and the pool they point into.
///
/// # Errors
/// When a run is empty, leaves the prompt or the pool, or overlaps another one.
pub(crate) fn expand(
    runs: &[BlockRun],
    prompt_blocks: u32,
    pool_blocks: u32,
) -> Result<Destinations, HandoffError> {
    let mut blocks = Destinations::new();
    for run in runs {
        let inside = |first: u32, limit: u32| {
            first.checked_add(run.count).is_some_and(|end| run.count > 0 && end <= limit)
        };
        if !inside(run.first_logical, prompt_blocks) || !inside(run.first_physical, pool_blocks) {
            return Err(HandoffError::protocol("a granted run leaves the prompt or the pool"));
        }
        for i in 0..run.count {
            if blocks.insert(run.first_logical + i, BlockId(run.first_physical + i)).is_some() {
                return Err(HandoffError::protocol("a block is granted twice"));
            }
        }
    }
    Ok(blocks)
}
