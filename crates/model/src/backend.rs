//! The operators that architectures are written over.
//!
//! Operators, not layers: mixtures of experts, latent attention, sinks and other hardware need more of them, not other
//! ones. Matrices are `[rows, width]`; the number of rows is set by [`Backend::embed`] and [`Backend::gather`], every
//! other output takes it from its input.

use crate::error::ModelError;
use estafette_gguf::TensorView;
use estafette_kernels::RopeForm;
use estafette_types::{BlockId, TokenId};
use std::ops::Range;

/// The rows of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// One a row.
    pub tokens: Vec<TokenId>,
    /// Of each row in its sequence.
    pub positions: Vec<u32>,
    /// Where each row's key and value go: block × block size + offset.
    pub slots: Vec<u32>,
    /// Which rows belong together.
    pub sequences: Vec<BatchSequence>,
    /// Rows whose logits are wanted.
    pub logit_rows: Vec<usize>,
}

/// How large a batch can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The most rows.
    pub rows: usize,
    /// The most rows whose logits are wanted.
    pub logit_rows: usize,
}

/// Consecutive rows of one sequence, at consecutive positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSequence {
    /// In the batch.
    pub rows: Range<usize>,
    /// Position of the first row.
    pub start: u32,
    /// Every block of the sequence, in order.
    pub block_table: Vec<BlockId>,
}

/// Heads of one attention layer. A row of the fused matrix has the queries, then the keys, then the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
}

impl AttentionShape {
    /// Columns of the fused matrix.
    pub fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// Rotary embedding (Su et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Elements of a head that are rotated.
    pub dim: usize,
    /// Base of the frequencies.
    pub theta: f32,
    /// Pairs.
    pub form: RopeForm,
    /// Divide the frequencies (llama 3).
    pub freq_factors: Option<Vec<f32>>,
}

/// One kind of hardware.
pub trait Backend {
    /// Weights of a linear layer, `[outputs, inputs]`.
    type Linear: std::fmt::Debug;
    /// Weights of a norm.
    type Vector: std::fmt::Debug;
    /// Activations.
    type Matrix: std::fmt::Debug;
    /// The KV pool.
    type Cache;
    /// See [`Backend::step`].
    type Step;

    /// Operators follow each other closely until the value is dropped.
    fn step(&self) -> Self::Step;

    /// Loads tensors that become consecutive outputs of one layer.
    ///
    /// # Errors
    /// When they do not fit together or memory is missing.
    fn load_linear(&mut self, parts: &[TensorView<'_>]) -> Result<Self::Linear, ModelError>;
    /// Loads a vector.
    ///
    /// # Errors
    /// When memory is missing.
    fn load_vector(&mut self, tensor: &TensorView<'_>) -> Result<Self::Vector, ModelError>;
    /// Room for `max_rows` rows of `width`.
    ///
    /// # Errors
    /// When memory is missing.
    fn new_matrix(&mut self, max_rows: usize, width: usize) -> Result<Self::Matrix, ModelError>;
    /// The rows of `table` that belong to the tokens.
    fn embed(&mut self, table: &Self::Linear, tokens: &[TokenId], out: &mut Self::Matrix);
    /// `x / sqrt(mean(x²) + eps) × weight`.
    fn rms_norm(
        &mut self,
        x: &Self::Matrix,
        weight: &Self::Vector,
        eps: f32,
        out: &mut Self::Matrix,
    );
    /// `out = x · wᵀ`.
    fn linear(&mut self, w: &Self::Linear, x: &Self::Matrix, out: &mut Self::Matrix);
    /// `out += x · wᵀ`: the residual.
    fn linear_add(&mut self, w: &Self::Linear, x: &Self::Matrix, out: &mut Self::Matrix);
    /// Rotates queries and keys in place.
    fn rope(
        &mut self,
        qkv: &mut Self::Matrix,
        shape: &AttentionShape,
        rope: &Rope,
        positions: &[u32],
    );
    /// Stores keys and values into their slots, before any row of this step reads them.
    fn store_kv(
        &mut self,
        qkv: &Self::Matrix,
        shape: &AttentionShape,
        cache: &mut Self::Cache,
        layer: usize,
        slots: &[u32],
    );
    /// Causal attention to the keys and values as stored; `out` has the query heads side by side.
    fn attention(
        &mut self,
        qkv: &Self::Matrix,
        shape: &AttentionShape,
        cache: &Self::Cache,
        layer: usize,
        batch: &Batch,
        out: &mut Self::Matrix,
    );
    /// `silu(gate) × up`, gates in the first half of a row.
    fn swiglu(&mut self, gate_up: &Self::Matrix, out: &mut Self::Matrix);
    /// Some rows.
    fn gather(&mut self, x: &Self::Matrix, rows: &[usize], out: &mut Self::Matrix);
    /// The values, on the host.
    fn read<'a>(&'a self, matrix: &'a Self::Matrix) -> &'a [f32];
}
