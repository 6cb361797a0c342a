//! CPU kernels: quantised linear layers, attention over a paged pool, the small operators between them, and
//! the checksum of blocks on their way.
//!
//! Every kernel is written once over [`simd::Simd`], sixteen lanes wide, and compiled for each tier of
//! instructions; the tier is chosen when the process starts, never at compile time. A row's result depends on that
//! row alone: the same bits alone or in a batch, on one thread or many, on any tier (docs/design/001-engine.md).
//!
//! `unsafe` is for vector instructions and raw pool memory; each place says what it relies on.
#![allow(unsafe_code, reason = "vector instructions and raw pool memory; see the module comments")]

mod attention;
mod checksum;
mod cpu;
mod dequant;
mod elementwise;
mod matmul;
mod memory;
mod pack;
mod quantize;
mod simd;
mod threads;
mod tier;

pub use attention::AttentionSeq;
pub use checksum::{checksum, copy_with_checksum};
pub use cpu::{Columns, CpuKernels, Mode};
pub use dequant::dequantize;
pub use elementwise::{RopeForm, RopeTable, ln};
pub use memory::{KvCache, KvLayout, KvMemory};
pub use pack::{PackError, PackedLinear};
pub use threads::StepGuard;
pub use tier::{Tier, TierError};
