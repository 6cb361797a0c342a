//! Executes steps: the scheduler's plan, the model's forward pass, sampling.
#![forbid(unsafe_code)]

pub mod sampler;
