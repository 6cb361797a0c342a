//! What a file says about its model, checked.

use crate::error::ModelError;
use estafette_gguf::{GgufFile, Value};
use estafette_kernels::RopeForm;

/// Architectures there are.
const SUPPORTED: &str = "llama";

/// Shape and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Transformer layers.
    pub num_layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides the query heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Positions that the model was made for.
    pub max_model_len: usize,
    /// Of RMSNorm.
    pub norm_eps: f32,
    /// Elements of a head that are rotated.
    pub rope_dim: usize,
    /// Base of the rotation frequencies.
    pub rope_theta: f32,
    /// Which elements are rotated together.
    pub rope_form: RopeForm,
}

impl ModelConfig {
    /// Reads and checks the metadata.
    ///
    /// # Errors
    /// When the architecture is not supported, or a key is missing or impossible.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let architecture = file.text("general.architecture")?;
        if architecture != "llama" {
            return Err(ModelError::Architecture {
                found: architecture.into(),
                supported: SUPPORTED,
            });
        }
        let read = Keys { file, architecture };
        read.refuse_scaling()?;
        read.refuse_what_is_not_computed()?;
        let hidden = read.size("embedding_length")?;
        let heads = read.size("attention.head_count")?;
        let kv_heads = read.size_or("attention.head_count_kv", heads)?;
        let head_dim = read.size_or("attention.key_length", hidden / heads.max(1))?;
        let config = Self {
            num_layers: read.size("block_count")?,
            hidden,
            ffn: read.size("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            vocab_size: vocab_size(file)?,
            max_model_len: read.size("context_length")?,
            norm_eps: read.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope_dim: read.size_or("rope.dimension_count", head_dim)?,
            rope_theta: read.float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_form: RopeForm::Interleaved,
        };
        config.check(&read)?;
        Ok(config)
    }

    /// What the operators rely on.
    fn check(&self, keys: &Keys<'_>) -> Result<(), ModelError> {
        let rule = |ok: bool, key: &str, problem: &str| {
            if ok { Ok(()) } else { Err(ModelError::metadata(&keys.name(key), problem)) }
        };
        rule(
            self.heads.is_multiple_of(self.kv_heads),
            "attention.head_count",
            "must be a multiple of head_count_kv",
        )?;
        rule(
            self.head_dim.is_multiple_of(16) && (16..=256).contains(&self.head_dim),
            "attention.key_length",
            "heads must have 16, 32, … 256 elements",
        )?;
        let values = keys.size_or("attention.value_length", self.head_dim)?;
        rule(values == self.head_dim, "attention.value_length", "must be that of the keys")?;
        rule(
            self.rope_dim.is_multiple_of(2) && self.rope_dim <= self.head_dim,
            "rope.dimension_count",
            "must be even and at most the head's size",
        )?;
        rule(self.hidden.is_multiple_of(32), "embedding_length", "must be a multiple of 32")?;
        rule(self.ffn.is_multiple_of(32), "feed_forward_length", "must be a multiple of 32")?;
        rule(self.norm_eps > 0.0, "attention.layer_norm_rms_epsilon", "must be above 0")?;
        rule(self.rope_theta > 1.0, "rope.freq_base", "must be above 1")
    }
}

fn vocab_size(file: &GgufFile) -> Result<usize, ModelError> {
    const KEY: &str = "tokenizer.ggml.tokens";
    match file.value(KEY) {
        Some(Value::List(tokens)) if !tokens.is_empty() => Ok(tokens.len()),
        _ => Err(ModelError::metadata(KEY, "must be the list of the vocabulary's tokens")),
    }
}

/// Keys of one architecture.
struct Keys<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

/// Keys that change a model's arithmetic in ways that are not computed here, and the values with which they do not.
const NOT_COMPUTED: [(&str, &[f32]); 7] = [
    ("rope.scaling.factor", &[0.0, 1.0]),
    ("rope.scale_linear", &[0.0, 1.0]),
    ("rope.scaling.attn_factor", &[0.0, 1.0]),
    ("attention.sliding_window", &[0.0]),
    ("attention.causal", &[1.0]),
    ("expert_count", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
];

/// No real model is larger in any of these.
const SIZE_MAX: usize = 1 << 24;

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        let name = self.name(key);
        match self.file.integer(&name)? {
            Some(n) if (1..=SIZE_MAX).contains(&n) => Ok(n),
            Some(n) => Err(ModelError::metadata(&name, format!("{n} is out of range"))),
            None => Err(ModelError::metadata(&name, "is missing")),
        }
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        if self.file.value(&self.name(key)).is_some() { self.size(key) } else { Ok(default) }
    }

    fn float(&self, key: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.file.float(&self.name(key))?)
    }

    /// Stretched contexts need arithmetic that is not written yet; `rope_freqs.weight` (llama 3) is read.
    fn refuse_scaling(&self) -> Result<(), ModelError> {
        let key = self.name("rope.scaling.type");
        match self.file.value(&key) {
            None => Ok(()),
            Some(Value::Text(kind)) if kind == "none" => Ok(()),
            Some(other) => Err(ModelError::metadata(&key, format!("{other:?} is not supported"))),
        }
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), ModelError> {
        for (key, neutral) in NOT_COMPUTED {
            if let Some(value) = self.float(key)?
                && !neutral.contains(&value)
            {
                return Err(ModelError::metadata(
                    &self.name(key),
                    format!("{value} is not supported"),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
