//! Executes steps: the scheduler's plan, the model's forward pass, sampling.
#![forbid(unsafe_code)]

pub mod bench;
mod cpu;
mod engine;
mod executor;
mod load;
mod mock;
pub mod sampler;
#[cfg(test)]
mod testing;

pub use cpu::{CpuBackend, KvPool};
pub use engine::{Engine, EngineEvent, NoObserver, StepObserver};
pub use executor::{Executor, ModelExecutor, Sequences};
pub use load::{BLOCK_SIZE, BackendOptions, LoadError, LoadOptions, Loaded, load};
