//! Models: architectures, and the operators that architectures are written over.
//!
//! An architecture is written once over [`Backend`]; a backend supplies the operators for one kind of hardware. The
//! `reference` backend is plain f32 and obviously right; others are checked against it.
#![forbid(unsafe_code)]

mod backend;
mod config;
mod error;
mod llama;
mod reference;

pub use backend::{AttentionShape, Backend, Batch, BatchSequence, Room, Rope};
pub use config::ModelConfig;
pub use error::ModelError;
pub use estafette_kernels::RopeForm;
pub use llama::Llama;
pub use reference::ReferenceBackend;

use estafette_gguf::GgufFile;

/// A loaded model of any supported architecture.
#[derive(Debug)]
pub enum Model<B: Backend> {
    /// Llama and what is built like it.
    Llama(Llama<B>),
}

impl<B: Backend> Model<B> {
    /// Loads the weights of `file`, which `config` was read from, into `backend`, with room for steps of this size.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or is not known.
    pub fn load(
        file: &GgufFile,
        config: &ModelConfig,
        backend: &mut B,
        room: Room,
    ) -> Result<Self, ModelError> {
        Ok(Self::Llama(Llama::load(file, config, backend, room)?))
    }

    /// Runs the batch; logits are then in [`Model::logits`]. `on_layer(l)` is called as soon as the keys and values of
    /// layer `l` are stored for every row.
    pub fn forward(
        &mut self,
        backend: &mut B,
        batch: &Batch,
        cache: &mut B::Cache,
        on_layer: &mut dyn FnMut(usize),
    ) {
        match self {
            Self::Llama(llama) => llama.forward(backend, batch, cache, on_layer),
        }
    }

    /// How positions get into the heads.
    pub fn rope(&self) -> &Rope {
        match self {
            Self::Llama(llama) => llama.rope(),
        }
    }

    /// `[logit rows, vocabulary]` of the last batch.
    pub fn logits(&self) -> &B::Matrix {
        match self {
            Self::Llama(llama) => llama.logits(),
        }
    }
}
