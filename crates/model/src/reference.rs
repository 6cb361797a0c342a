//! The `reference` backend: plain f32, one row after the other, short and obviously right. Keys and values stay f32.

use crate::backend::{AttentionShape, Backend, Batch, BatchSequence, Rope};
use crate::error::ModelError;
use estafette_gguf::TensorView;
use estafette_kernels::{RopeForm, dequantize};
use estafette_types::TokenId;

/// Knows nothing; its work is in its methods.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

/// A row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    data: Vec<f32>,
    width: usize,
}

impl Matrix {
    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width)
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.width..(row + 1) * self.width]
    }
}

/// Keys and values of every slot: `[layer][slot][kv heads × head_dim]`.
#[derive(Clone, Debug)]
pub struct PagedCache {
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    width: usize,
    block_size: usize,
}

impl ReferenceBackend {
    /// A pool for `layers` layers; `width` is kv heads × head size.
    pub fn new_cache(
        &self,
        layers: usize,
        num_blocks: usize,
        block_size: usize,
        width: usize,
    ) -> PagedCache {
        // What was never stored must not be read: while debugging it is poison. Zeros take no memory until they are used.
        let empty = if cfg!(debug_assertions) { f32::NAN } else { 0.0 };
        let pool = || (0..layers).map(|_| vec![empty; num_blocks * block_size * width]).collect();
        PagedCache { keys: pool(), values: pool(), width, block_size }
    }
}

/// Sixteen partial sums, then their sum: far smaller rounding errors than one running sum.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

fn product(w: &Matrix, x: &Matrix) -> impl Iterator<Item = f32> {
    x.rows().flat_map(|x| w.rows().map(|w| dot(x, w)))
}

impl Backend for ReferenceBackend {
    type Linear = Matrix;
    type Vector = Vec<f32>;
    type Matrix = Matrix;
    type Cache = PagedCache;
    type Step = ();

    fn step(&self) {}

    fn load_linear(&mut self, parts: &[TensorView<'_>]) -> Result<Matrix, ModelError> {
        let width = parts.first().map_or(0, |part| part.cols);
        let mut data = Vec::new();
        for part in parts {
            let mut values = vec![0.0; part.rows * part.cols];
            dequantize(part.ty, part.data, &mut values);
            data.append(&mut values);
        }
        Ok(Matrix { data, width })
    }

    fn load_vector(&mut self, tensor: &TensorView<'_>) -> Result<Vec<f32>, ModelError> {
        self.load_linear(std::slice::from_ref(tensor)).map(|matrix| matrix.data)
    }

    fn new_matrix(&mut self, _max_rows: usize, width: usize) -> Result<Matrix, ModelError> {
        Ok(Matrix { data: Vec::new(), width })
    }

    fn embed(&mut self, table: &Matrix, tokens: &[TokenId], out: &mut Matrix) {
        out.data = tokens.iter().flat_map(|token| table.row(*token as usize)).copied().collect();
    }

    fn rms_norm(&mut self, x: &Matrix, weight: &Vec<f32>, eps: f32, out: &mut Matrix) {
        out.data.clear();
        for row in x.rows() {
            let factor = 1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt();
            out.data.extend(row.iter().zip(weight).map(|(x, w)| x * factor * w));
        }
    }

    fn linear(&mut self, w: &Matrix, x: &Matrix, out: &mut Matrix) {
        out.data = product(w, x).collect();
    }

    fn linear_add(&mut self, w: &Matrix, x: &Matrix, out: &mut Matrix) {
        for (out, y) in out.data.iter_mut().zip(product(w, x)) {
            *out += y;
        }
    }

    fn rope(&mut self, qkv: &mut Matrix, shape: &AttentionShape, rope: &Rope, positions: &[u32]) {
        let width = qkv.width;
        for (row, position) in qkv.data.chunks_exact_mut(width).zip(positions) {
            let heads = row.chunks_exact_mut(shape.head_dim).take(shape.heads + shape.kv_heads);
            heads.for_each(|head| rotate(head, rope, *position));
        }
    }

    fn store_kv(
        &mut self,
        qkv: &Matrix,
        shape: &AttentionShape,
        cache: &mut PagedCache,
        layer: usize,
        slots: &[u32],
    ) {
        let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        for (row, slot) in qkv.rows().zip(slots) {
            let place = *slot as usize * kv..(*slot as usize + 1) * kv;
            cache.keys[layer][place.clone()].copy_from_slice(&row[q..q + kv]);
            cache.values[layer][place].copy_from_slice(&row[q + kv..]);
        }
    }

    fn attention(
        &mut self,
        qkv: &Matrix,
        shape: &AttentionShape,
        cache: &PagedCache,
        layer: usize,
        batch: &Batch,
        out: &mut Matrix,
    ) {
        out.data.clear();
        for sequence in &batch.sequences {
            for (i, row) in sequence.rows.clone().enumerate() {
                let keys = sequence.start as usize + i + 1;
                for head in 0..shape.heads {
                    let q = &qkv.row(row)[head * shape.head_dim..(head + 1) * shape.head_dim];
                    let kv_head = head * shape.kv_heads / shape.heads;
                    out.data.extend(attend(q, shape, cache, layer, kv_head, sequence, keys));
                }
            }
        }
    }

    fn swiglu(&mut self, gate_up: &Matrix, out: &mut Matrix) {
        out.data.clear();
        for row in gate_up.rows() {
            let (gate, up) = row.split_at(row.len() / 2);
            out.data.extend(gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u));
        }
    }

    fn gather(&mut self, x: &Matrix, rows: &[usize], out: &mut Matrix) {
        out.data = rows.iter().flat_map(|row| x.row(*row)).copied().collect();
    }

    fn read<'a>(&'a self, matrix: &'a Matrix) -> &'a [f32] {
        &matrix.data
    }
}

fn rotate(head: &mut [f32], rope: &Rope, position: u32) {
    for i in 0..rope.dim / 2 {
        let factor = rope.freq_factors.as_ref().map_or(1.0, |factors| f64::from(factors[i]));
        let frequency = f64::from(rope.theta).powf(-2.0 * i as f64 / rope.dim as f64) / factor;
        let (sin, cos) = (f64::from(position) * frequency).sin_cos();
        let (sin, cos) = (sin as f32, cos as f32);
        let (a, b) = match rope.form {
            RopeForm::Interleaved => (2 * i, 2 * i + 1),
            RopeForm::HalfSplit => (i, i + rope.dim / 2),
        };
        let (x, y) = (head[a], head[b]);
        head[a] = x * cos - y * sin;
        head[b] = x * sin + y * cos;
    }
}

/// Softmax of the scores of the first `keys` positions, times their values.
fn attend(
    q: &[f32],
    shape: &AttentionShape,
    cache: &PagedCache,
    layer: usize,
    kv_head: usize,
    sequence: &BatchSequence,
    keys: usize,
) -> Vec<f32> {
    let place = |position: usize| {
        let block = sequence.block_table[position / cache.block_size].0 as usize;
        let slot = block * cache.block_size + position % cache.block_size;
        let start = slot * cache.width + kv_head * shape.head_dim;
        start..start + shape.head_dim
    };
    let scores: Vec<f32> =
        (0..keys).map(|p| dot(q, &cache.keys[layer][place(p)]) * shape.scale).collect();
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - max).exp()).collect();
    let total: f32 = weights.iter().sum();
    let mut out = vec![0.0; shape.head_dim];
    for (p, weight) in weights.iter().enumerate() {
        for (out, v) in out.iter_mut().zip(&cache.values[layer][place(p)]) {
            *out += weight / total * v;
        }
    }
    out
}
