//! GGUF files: metadata, and where the tensors are. The router reads the tokenizer from them, workers the weights.
//!
//! The format is llama.cpp's (ggml `docs/gguf.md`). Nothing here interprets a model; that is what `estafette-model` and
//! `estafette-tokenizer` do.
#![deny(unsafe_code)]

mod error;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod reader;
mod tensor_type;
pub mod tiny;
mod writer;

pub use error::GgufError;
pub use file::{GgufFile, TensorView, Value};
pub use tensor_type::TensorType;
pub use writer::GgufWriter;
