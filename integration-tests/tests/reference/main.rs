//! The default model against Hugging Face transformers, which ran it in f32: see `integration-tests/reference/README.md`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod data;
mod numbers;
mod runner;
mod text;
