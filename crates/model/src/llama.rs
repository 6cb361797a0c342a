//! Llama (Touvron et al. 2023): pre-norm, grouped-query attention with rotary embedding, SwiGLU. Every row of the
//! computation is independent of the others but through the KV pool.

use crate::backend::{AttentionShape, Backend, Batch, Room, Rope};
use crate::config::ModelConfig;
use crate::error::ModelError;
use estafette_gguf::{GgufFile, TensorView};
use std::cell::RefCell;
use std::collections::BTreeSet;

#[derive(Debug)]
struct Layer<B: Backend> {
    attn_norm: B::Vector,
    qkv: B::Linear,
    attn_output: B::Linear,
    ffn_norm: B::Vector,
    gate_up: B::Linear,
    down: B::Linear,
}

/// Weights and the activations of a step.
#[derive(Debug)]
pub struct Llama<B: Backend> {
    embedding: B::Linear,
    layers: Vec<Layer<B>>,
    output_norm: B::Vector,
    /// `None`: the embedding serves as the head.
    head: Option<B::Linear>,
    shape: AttentionShape,
    rope: Rope,
    eps: f32,
    /// The residual stream.
    x: B::Matrix,
    /// The rows of it whose logits are wanted.
    wanted: B::Matrix,
    normed: B::Matrix,
    qkv: B::Matrix,
    attended: B::Matrix,
    gate_up: B::Matrix,
    activated: B::Matrix,
    logits: B::Matrix,
}

impl<B: Backend> Llama<B> {
    /// Loads the weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the metadata says, or one is there that this architecture does
    /// not have.
    pub fn load(
        file: &GgufFile,
        config: &ModelConfig,
        backend: &mut B,
        room: Room,
    ) -> Result<Self, ModelError> {
        let c = config;
        let shape = AttentionShape {
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            scale: 1.0 / (c.head_dim as f32).sqrt(),
        };
        let tensors = Tensors::new(file);
        let embedding =
            backend.load_linear(&[tensors.get("token_embd.weight", c.vocab_size, c.hidden)?])?;
        let head = match file.tensor("output.weight") {
            None => None,
            Some(view) => {
                let view = tensors.get(view.name, c.vocab_size, c.hidden)?;
                Some(backend.load_linear(&[view])?)
            }
        };
        let layers = (0..c.num_layers)
            .map(|i| Layer::load(&tensors, c, &shape, backend, i))
            .collect::<Result<_, _>>()?;
        let output_norm =
            backend.load_vector(&tensors.get("output_norm.weight", 1, c.hidden)?)?;
        let rope = rope(&tensors, c)?;
        tensors.refuse_the_rest()?;
        let wanted = backend.new_matrix(room.logit_rows, c.hidden)?;
        let logits = backend.new_matrix(room.logit_rows, c.vocab_size)?;
        let mut matrix = |width| backend.new_matrix(room.rows, width);
        Ok(Self {
            embedding,
            layers,
            output_norm,
            head,
            shape,
            rope,
            eps: c.norm_eps,
            x: matrix(c.hidden)?,
            wanted,
            normed: matrix(c.hidden)?,
            qkv: matrix(shape.width())?,
            attended: matrix(shape.heads * shape.head_dim)?,
            gate_up: matrix(2 * c.ffn)?,
            activated: matrix(c.ffn)?,
            logits,
        })
    }

    /// Runs the batch.
    pub fn forward(
        &mut self,
        backend: &mut B,
        batch: &Batch,
        cache: &mut B::Cache,
        on_layer: &mut dyn FnMut(usize),
    ) {
        let _step = backend.step();
        backend.embed(&self.embedding, &batch.tokens, &mut self.x);
        for (l, layer) in self.layers.iter().enumerate() {
            backend.rms_norm(&self.x, &layer.attn_norm, self.eps, &mut self.normed);
            backend.linear(&layer.qkv, &self.normed, &mut self.qkv);
            backend.rope(&mut self.qkv, &self.shape, &self.rope, &batch.positions);
            backend.store_kv(&self.qkv, &self.shape, cache, l, &batch.slots);
            on_layer(l);
            backend.attention(&self.qkv, &self.shape, cache, l, batch, &mut self.attended);
            backend.linear_add(&layer.attn_output, &self.attended, &mut self.x);
            backend.rms_norm(&self.x, &layer.ffn_norm, self.eps, &mut self.normed);
            backend.linear(&layer.gate_up, &self.normed, &mut self.gate_up);
            backend.swiglu(&self.gate_up, &mut self.activated);
            backend.linear_add(&layer.down, &self.activated, &mut self.x);
        }
        // Only the rows that are asked for go through the head, which is the largest layer.
        backend.gather(&self.x, &batch.logit_rows, &mut self.wanted);
        backend.rms_norm(&self.wanted, &self.output_norm, self.eps, &mut self.normed);
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        backend.linear(head, &self.normed, &mut self.logits);
    }

    /// How positions get into the heads.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// `[logit rows, vocabulary]` of the last batch.
    pub fn logits(&self) -> &B::Matrix {
        &self.logits
    }
}

impl<B: Backend> Layer<B> {
    fn load(
        tensors: &Tensors<'_>,
        c: &ModelConfig,
        shape: &AttentionShape,
        backend: &mut B,
        index: usize,
    ) -> Result<Self, ModelError> {
        let get =
            |name: &str, rows, cols| tensors.get(&format!("blk.{index}.{name}.weight"), rows, cols);
        let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        Ok(Self {
            attn_norm: backend.load_vector(&get("attn_norm", 1, c.hidden)?)?,
            qkv: backend.load_linear(&[
                get("attn_q", q, c.hidden)?,
                get("attn_k", kv, c.hidden)?,
                get("attn_v", kv, c.hidden)?,
            ])?,
            attn_output: backend.load_linear(&[get("attn_output", c.hidden, q)?])?,
            ffn_norm: backend.load_vector(&get("ffn_norm", 1, c.hidden)?)?,
            gate_up: backend.load_linear(&[
                get("ffn_gate", c.ffn, c.hidden)?,
                get("ffn_up", c.ffn, c.hidden)?,
            ])?,
            down: backend.load_linear(&[get("ffn_down", c.hidden, c.ffn)?])?,
        })
    }
}

/// The file's tensors, and which of them the model has read.
struct Tensors<'a> {
    file: &'a GgufFile,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Tensors<'a> {
    fn new(file: &'a GgufFile) -> Self {
        Self { file, read: RefCell::default() }
    }

    /// A tensor of exactly this shape.
    fn get(&self, name: &str, rows: usize, cols: usize) -> Result<TensorView<'a>, ModelError> {
        let view = self.file.tensor(name).ok_or_else(|| ModelError::MissingTensor(name.into()))?;
        if (view.rows, view.cols) != (rows, cols) {
            let problem = format!("is {} × {}, not {rows} × {cols}", view.rows, view.cols);
            return Err(ModelError::tensor(name, problem));
        }
        self.read.borrow_mut().insert(view.name);
        Ok(view)
    }

    /// A tensor that nobody has read is part of a model that is not computed here: without it every answer is wrong.
    fn refuse_the_rest(&self) -> Result<(), ModelError> {
        let read = self.read.borrow();
        match self.file.tensor_names().find(|name| !read.contains(name)) {
            None => Ok(()),
            Some(name) => Err(ModelError::tensor(name, "is not part of a llama as computed here")),
        }
    }
}

fn rope(tensors: &Tensors<'_>, c: &ModelConfig) -> Result<Rope, ModelError> {
    let freq_factors = match tensors.file.tensor("rope_freqs.weight") {
        None => None,
        Some(view) => {
            let view = tensors.get(view.name, 1, c.rope_dim / 2)?;
            let mut factors = vec![0.0; view.cols];
            estafette_kernels::dequantize(view.ty, view.data, &mut factors);
            if let Some(bad) = factors.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
                return Err(ModelError::tensor(view.name, format!("{bad} divides no frequency")));
            }
            Some(factors)
        }
    };
    Ok(Rope { dim: c.rope_dim, theta: c.rope_theta, form: c.rope_form, freq_factors })
}

#[cfg(test)]
mod tests;
