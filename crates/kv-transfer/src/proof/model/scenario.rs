//! What a small world is made of.

use crate::{HandoffLayout, ReceiverLimits};
use estafette_kernels::KvLayout;

/// A known bug, put back in: each is at the edge between a machine and its shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The engine frees the slots of a revoked transfer although a writer may still store: vllm #32255,
    /// sglang #24527.
    FreesAtOnce,
    /// A completion is counted for whatever grant the transfer has now.
    CountsOldGrants,
    /// A sender takes a grant that answers an earlier push of the same transfer.
    TakesOldGrants,
    /// The engine takes an event for the leg that waits now, and not for the one that it names.
    TakesOldEvents,
}

/// The world's dimensions. Pushes and legs begin in their order; two of one transfer are a retry.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) one_sided: bool,
    /// The transfer of each push, and of each leg.
    pub(super) transfers: &'static [u128],
    /// Blocks of each prompt.
    pub(super) blocks: u32,
    pub(super) slots: u32,
    pub(super) faults: u8,
    pub(super) bug: Option<Bug>,
}

pub(super) const GROUPS: u32 = 2;

impl Scenario {
    pub(super) fn layout(&self) -> HandoffLayout {
        let kv = KvLayout {
            num_blocks: self.slots,
            block_size: 1,
            layers: GROUPS,
            kv_heads: 1,
            head_dim: 1,
        };
        HandoffLayout {
            kv,
            layers_per_group: 1,
            model_digest: Vec::new(),
            numerics_id: String::new(),
        }
    }

    pub(super) fn limits() -> ReceiverLimits {
        ReceiverLimits { resend_units: 1, ..ReceiverLimits::default() }
    }

    pub(super) fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}
