//! Why a model cannot be loaded.

use estafette_gguf::GgufError;
use estafette_kernels::PackError;
use thiserror::Error;

/// Says which file, key or tensor, and what is wrong with it.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file is damaged, or a key or tensor in it is not what it must be.
    #[error(transparent)]
    File(#[from] GgufError),
    /// No such tensor.
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    /// An architecture nobody has written.
    #[error("architecture `{found}` is not supported, only {supported}")]
    Architecture {
        /// In the file.
        found: String,
        /// What there is.
        supported: &'static str,
    },
    /// The weights of a layer do not fit together.
    #[error("tensor `{name}`: {source}")]
    Pack {
        /// The first of them.
        name: String,
        /// Why.
        source: PackError,
    },
    /// The system has no memory for the activations of a step.
    #[error("no memory for {rows} rows of {width} activations; fewer tokens in a step need less")]
    Activations {
        /// Rows asked for.
        rows: usize,
        /// Numbers in a row.
        width: usize,
    },
}

impl ModelError {
    pub(crate) fn metadata(key: &str, problem: impl Into<String>) -> Self {
        GgufError::metadata(key, problem).into()
    }

    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        GgufError::tensor(name, problem).into()
    }
}
