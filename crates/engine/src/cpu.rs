//! The `cpu` backend: the operators of [`Backend`] on the kernels of `estafette-kernels`.

use crate::sampler::RowMath;
use estafette_gguf::TensorView;
use estafette_kernels::{
    AttentionSeq, Columns, CpuKernels, KvCache, KvLayout, KvMemory, Mode, PackedLinear, RopeTable,
    Tier, dequantize,
};
use estafette_model::{AttentionShape, Backend, Batch, ModelError, Rope};
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
    /// Only rows that were in use once take memory.
    fn set_rows(&mut self, rows: usize) {
        self.rows = rows;
        if self.data.len() < rows * self.width {
            self.data.resize(rows * self.width, 0.0);
        }
    }

    fn used(&self) -> &[f32] {
        &self.data[..self.rows * self.width]
    }

    fn used_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.width]
    }

    fn columns(&self, offset: usize) -> Columns<'_> {
        Columns { data: self.used(), stride: self.width, offset }
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

    fn multiply(&mut self, w: &PackedLinear, x: &Matrix, out: &mut Matrix, mode: Mode) {
        out.set_rows(x.rows);
        self.kernels.linear(w, x.used(), x.rows, out.used_mut(), mode);
    }
}

impl Backend for CpuBackend {
    type Linear = PackedLinear;
    type Vector = Vec<f32>;
    type Matrix = Matrix;
    type Cache = KvCache;
    type Step = estafette_kernels::StepGuard;

    fn step(&self) -> Self::Step {
        self.kernels.step()
    }

    fn load_linear(&mut self, parts: &[TensorView<'_>]) -> Result<PackedLinear, ModelError> {
        let name = parts.first().map_or("", |part| part.name);
        let parts: Vec<_> =
            parts.iter().map(|part| (part.ty, part.rows, part.cols, part.data)).collect();
        PackedLinear::pack(&parts).map_err(|source| ModelError::Pack { name: name.into(), source })
    }

    fn load_vector(&mut self, tensor: &TensorView<'_>) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; tensor.rows * tensor.cols];
        dequantize(tensor.ty, tensor.data, &mut values);
        Ok(values)
    }

    fn new_matrix(&mut self, max_rows: usize, width: usize) -> Result<Matrix, ModelError> {
        let mut data = Vec::new();
        data.try_reserve_exact(max_rows.saturating_mul(width))
            .map_err(|_| ModelError::Activations { rows: max_rows, width })?;
        Ok(Matrix { data, rows: 0, width })
    }

    fn embed(&mut self, table: &PackedLinear, tokens: &[TokenId], out: &mut Matrix) {
        out.set_rows(tokens.len());
        self.kernels.embed(table, tokens, out.used_mut());
    }

    fn rms_norm(&mut self, x: &Matrix, weight: &Vec<f32>, eps: f32, out: &mut Matrix) {
        out.set_rows(x.rows);
        self.kernels.rms_norm(x.used(), x.rows, weight, eps, out.used_mut());
    }

    fn linear(&mut self, w: &PackedLinear, x: &Matrix, out: &mut Matrix) {
        self.multiply(w, x, out, Mode::Store);
    }

    fn linear_add(&mut self, w: &PackedLinear, x: &Matrix, out: &mut Matrix) {
        self.multiply(w, x, out, Mode::Add);
    }

    fn rope(&mut self, qkv: &mut Matrix, shape: &AttentionShape, rope: &Rope, positions: &[u32]) {
        let table = self.rope.get_or_insert_with(|| {
            RopeTable::new(rope.dim, rope.theta, rope.freq_factors.as_deref())
        });
        table.reach(positions.iter().max().map_or(0, |last| *last as usize + 1));
        let (stride, heads) = (qkv.width, shape.heads + shape.kv_heads);
        let x = qkv.used_mut();
        self.kernels.rope(x, stride, 0, heads, shape.head_dim, positions, table, rope.form);
    }

    fn store_kv(
        &mut self,
        qkv: &Matrix,
        shape: &AttentionShape,
        cache: &mut KvCache,
        layer: usize,
        slots: &[u32],
    ) {
        let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        self.kernels.store_kv(qkv.columns(q), qkv.columns(q + kv), slots, cache, layer);
    }

    fn attention(
        &mut self,
        qkv: &Matrix,
        shape: &AttentionShape,
        cache: &KvCache,
        layer: usize,
        batch: &Batch,
        out: &mut Matrix,
    ) {
        let seqs: Vec<_> = batch
            .sequences
            .iter()
            .map(|s| AttentionSeq {
                rows: s.rows.clone(),
                start: s.start,
                block_table: &s.block_table,
            })
            .collect();
        out.set_rows(qkv.rows);
        let q = qkv.columns(0);
        self.kernels.attention(q, shape.heads, shape.scale, &seqs, cache, layer, out.used_mut());
    }

    fn swiglu(&mut self, gate_up: &Matrix, out: &mut Matrix) {
        out.set_rows(gate_up.rows);
        let width = out.width;
        self.kernels.swiglu(gate_up.used(), gate_up.rows, width, out.used_mut());
    }

    fn gather(&mut self, x: &Matrix, rows: &[usize], out: &mut Matrix) {
        out.set_rows(rows.len());
        for (row, out) in rows.iter().zip(out.data.chunks_exact_mut(x.width)) {
            out.copy_from_slice(&x.used()[row * x.width..(row + 1) * x.width]);
        }
    }

    fn read<'a>(&'a self, matrix: &'a Matrix) -> &'a [f32] {
        matrix.used()
    }
}

impl RowMath for CpuBackend {
    fn exp_sum(&self, row: &[f32], max: f32, divisor: f32, out: Option<&mut [f32]>) -> f32 {
        self.kernels.exp_sum(row, max, divisor, out)
    }

    fn ln(&self, x: f32) -> f32 {
        estafette_kernels::ln(x)
    }
}

#[cfg(test)]
mod tests;
