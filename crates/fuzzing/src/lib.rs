//! Runs an entry point of the fuzzers on stable Rust, for the ordinary tests: random inputs and mutated good ones, the same
//! for the same seed.
//!
//! Parsers of bytes from others have a module `fuzz` with entry points of the form `fn(&[u8])`. cargo-fuzz drives them in
//! search of new paths (`fuzz/`), [`drive`] for a second in each test run.
#![forbid(unsafe_code)]

mod drive;
mod mutate;

pub use drive::drive;
