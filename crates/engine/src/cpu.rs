//! The `cpu` backend: the operators of [`Backend`] on the kernels of `estafette-kernels`.

use crate::sampler::RowMath;
use estafette_kernels::{
    AttentionSeq, CpuKernels, KvLayout, KvMemory, Mode, PackedLinear, RopeForm as KernelRopeForm,
    RopeTable, Tier,
};
use estafette_model::{
    AttentionShape, Backend, Batch, ModelError, Rope, RopeForm, TensorView, gguf,
};
use estafette_types::TokenId;
use std::sync::Arc;

/// Vector kernels with a pool of threads.
#[derive(Debug)]
pub struct CpuBackend {
    kernels: CpuKernels,
    rope: Option<RopeTable>,
}

/// Activations: `rows` of `width` f32 each, row-major.
#[derive(Debug)]
pub struct Matrix {
    data: Vec<f32>,
    rows: usize,
    width: usize,
}

impl Matrix {
    fn set_rows(&mut self, rows: usize) {
        assert!(rows * self.width <= self.data.len(), "a step has at most max_rows rows");
        self.rows = rows;
    }

    fn used(&self) -> &[f32] {
        &self.data[..self.rows * self.width]
    }

    fn used_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.width]
    }
}

/// The KV pool: its bytes, which transports may share, and their order.
#[derive(Clone, Debug)]
pub struct KvPool {
    /// The bytes.
    pub memory: Arc<KvMemory>,
    /// Where each block, layer and head is in them.
    pub layout: KvLayout,
}

impl CpuBackend {
    /// Kernels of `tier` on `threads` threads, the caller's included.
    pub fn new(tier: Tier, threads: usize) -> Self {
        Self { kernels: CpuKernels::new(tier, threads), rope: None }
    }

    /// The kernels.
    pub fn kernels(&self) -> &CpuKernels {
        &self.kernels
    }

    fn rope_table(&mut self, rope: &Rope) -> &RopeTable {
        self.rope.get_or_insert_with(|| {
            RopeTable::new(rope.max_positions, rope.dim, rope.theta, rope.freq_factors.as_deref())
        })
    }
}
