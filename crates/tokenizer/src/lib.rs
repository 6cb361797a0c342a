//! Text to tokens and back: encoding, chat templates, incremental detokenising, stop strings.
//!
//! Everything is read from a GGUF file. Merging byte pairs is the `tokenizers` crate's work; what is here is what serving
//! needs around it: special tokens that text from outside cannot forge, text that is never taken back once it was shown,
//! and stop strings across token boundaries.
#![forbid(unsafe_code)]

mod bytes;
mod chat;
mod clock;
mod detokenizer;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod json;
mod merger;
mod pre_tokenizer;
mod special;
mod stop;
mod tokenizer;
mod vocabulary;
mod words;

pub use chat::{ChatMessage, ChatRequest};
pub use detokenizer::Detokenizer;
pub use error::TokenizerError;
pub use stop::{StopMatcher, StopOutcome};
pub use tokenizer::Tokenizer;
