//! What both pools must agree on, and where a unit lies.
//!
//! A *unit* is one layer group of one block: one run of bytes, since the pool is block-major and the
//! layers of a group follow each other.

use crate::HandoffError;
use estafette_kernels::KvLayout;
use estafette_types::BlockId;
use std::ops::Range;

/// Version of the order of elements inside a block.
pub(crate) const FORMAT: u32 = 1;

/// The layout contract; compared field by field when a sender attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoffLayout {
    /// Shape of this side's pool. `num_blocks` may differ between the sides.
    pub kv: KvLayout,
    /// Layers that travel together, at least 1; the last group may be shorter.
    pub layers_per_group: u32,
    /// The identity of the model file.
    pub model_digest: Vec<u8>,
    /// Equal ids mean bit-identical KV.
    pub numerics_id: String,
}

impl HandoffLayout {
    /// Layer groups of one block.
    pub fn groups(&self) -> u32 {
        self.kv.layers.div_ceil(self.layers_per_group.max(1))
    }

    /// The layers of `group`.
    pub fn layers_of(&self, group: u32) -> Range<u32> {
        let first = group.saturating_mul(self.layers_per_group).min(self.kv.layers);
        first..first.saturating_add(self.layers_per_group).min(self.kv.layers)
    }

    /// The group that ends with `layer`, if one does: what to announce after that layer has run.
    pub fn group_ending_with(&self, layer: u32) -> Option<u32> {
        let ends =
            (layer + 1).is_multiple_of(self.layers_per_group.max(1)) || layer + 1 == self.kv.layers;
        ends.then(|| layer / self.layers_per_group.max(1))
    }

    /// Bytes of one unit of `group`.
    pub fn unit_bytes(&self, group: u32) -> usize {
        self.layers_of(group).len() * self.kv.layer_bytes()
    }

    /// Where the unit of `group` in `block` lies in the pool, in bytes.
    pub fn unit_range(&self, block: BlockId, group: u32) -> Range<usize> {
        let start = block.0 as usize * self.kv.block_bytes()
            + self.layers_of(group).start as usize * self.kv.layer_bytes();
        start..start + self.unit_bytes(group)
    }

    /// Whether blocks can be copied between pools of the two layouts as they are.
    ///
    /// # Errors
    /// [`HandoffError::LayoutMismatch`] naming the first field that differs.
    pub fn matches(&self, other: &Self) -> Result<(), HandoffError> {
        let (a, b) = (&self.kv, &other.kv);
        let differs = [
            ("block_size", a.block_size != b.block_size),
            ("layers", a.layers != b.layers),
            ("kv_heads", a.kv_heads != b.kv_heads),
            ("head_dim", a.head_dim != b.head_dim),
            ("layers_per_group", self.layers_per_group != other.layers_per_group),
            ("model_digest", self.model_digest != other.model_digest),
            ("numerics_id", self.numerics_id != other.numerics_id),
        ];
        match differs.iter().find(|(_, differs)| *differs) {
            Some((field, _)) => Err(HandoffError::LayoutMismatch { field: (*field).into() }),
            None => Ok(()),
        }
    }
}
