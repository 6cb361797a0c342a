//! Why a file cannot be read.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Says which file, key or tensor, and what is wrong with it.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The first bytes are not those of a GGUF file.
    #[error("this is no GGUF file: it starts with {0:02x?}")]
    Magic([u8; 4]),
    /// A GGUF version that is not read here.
    #[error("GGUF version {0} is not supported, only 2 and 3 (little endian)")]
    Version(u32),
    /// The file ends before what it announces.
    #[error("the file is truncated: {what} at byte {at} runs past its end ({len} bytes)")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where.
        at: u64,
        /// The file's length.
        len: u64,
    },
    /// A number in the header cannot be.
    #[error("the header is damaged: {0}")]
    Header(String),
    /// A metadata key is missing, has another type, or an impossible value.
    #[error("metadata `{key}`: {problem}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor that cannot be used.
    #[error("tensor `{name}`: {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl GgufError {
    /// The value of `key` is not what it must be.
    pub fn metadata(key: &str, problem: impl Into<String>) -> Self {
        Self::Metadata { key: key.into(), problem: problem.into() }
    }

    /// The tensor `name` cannot be used.
    pub fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { name: name.into(), problem: problem.into() }
    }
}
