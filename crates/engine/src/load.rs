//! From a model file to an executor.

use crate::cpu::{CpuBackend, KvPool};
use crate::executor::{Executor, ModelExecutor};
use crate::mock::MockExecutor;
use crate::sampler::{self, Scratch};
use estafette_gguf::{GgufError, GgufFile};
use estafette_kernels::{KvCache, KvLayout, RopeTable, Tier};
use estafette_model::{Model, ModelConfig, ModelError, ReferenceBackend, Room, Rope};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Tokens in a block. The CPU kernels' tiles are one block of keys wide.
pub const BLOCK_SIZE: u32 = 16;

/// Which backend runs the model, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendOptions {
    /// Vector kernels of this tier on this many threads.
    Cpu {
        /// Chosen at start, never at compile time.
        tier: Tier,
        /// The caller's thread included.
        threads: usize,
        /// The pool's memory can be given to other processes.
        shared_pool: bool,
    },
    /// Plain f32.
    Reference,
    /// None: see `mock.rs`.
    Mock {
        /// How long each step takes.
        step: Duration,
        /// The pool's memory can be given to other processes.
        shared_pool: bool,
    },
}

/// How much to load for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// What runs the model.
    pub backend: BackendOptions,
    /// Bytes for KV blocks.
    pub kv_bytes: u64,
    /// The most rows in one step.
    pub max_rows: usize,
    /// The most sequences in one step.
    pub max_seqs: usize,
}

/// A loaded model.
pub struct Loaded {
    /// Runs plans.
    pub executor: Box<dyn Executor>,
    /// What the file says about the model.
    pub config: ModelConfig,
    /// See [`GgufFile::digest`].
    pub digest: [u8; 32],
    /// Blocks in the pool.
    pub num_blocks: u32,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    File(GgufError),
    /// The file is not a model that can be run.
    #[error("{}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ModelError,
    },
    /// Not even one sequence of one block would fit.
    #[error("{given} bytes for KV hold no block: one takes {block} bytes")]
    PoolTooSmall {
        /// Asked for.
        given: u64,
        /// Of one block.
        block: u64,
    },
    /// The system has no such memory.
    #[error("cannot get {bytes} bytes for KV blocks: {source}")]
    NoMemory {
        /// Asked for.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// Loads `path`.
///
/// # Errors
/// When the file is damaged or not supported, or the pool cannot be had.
pub fn load(path: &Path, options: LoadOptions) -> Result<Loaded, LoadError> {
    let file = GgufFile::open(path).map_err(|error| match error {
        // This one names the file itself.
        GgufError::Io { .. } => LoadError::File(error),
        _ => LoadError::Model { path: path.into(), source: error.into() },
    })?;
    load_file(path, &file, options)
}

/// Loads an open file; `path` is its name in errors.
pub(crate) fn load_file(
    path: &Path,
    file: &GgufFile,
    options: LoadOptions,
) -> Result<Loaded, LoadError> {
    let wrong = |source| LoadError::Model { path: path.into(), source };
    let config = ModelConfig::from_gguf(file).map_err(wrong)?;
    let layout = kv_layout(&config, options.kv_bytes)?;
    let room = Room { rows: options.max_rows, logit_rows: options.max_seqs };
    let executor: Box<dyn Executor> = match options.backend {
        BackendOptions::Cpu { tier, threads, shared_pool } => {
            let mut backend = CpuBackend::new(tier, threads);
            let model = Model::load(file, &config, &mut backend, room).map_err(wrong)?;
            Box::new(cpu_executor(backend, model, &config, layout, shared_pool)?)
        }
        BackendOptions::Reference => {
            let mut backend = ReferenceBackend;
            let model = Model::load(file, &config, &mut backend, room).map_err(wrong)?;
            Box::new(reference_executor(backend, model, &config, layout))
        }
        BackendOptions::Mock { step, shared_pool } => {
            let vocab_size = u32::try_from(config.vocab_size).unwrap_or(u32::MAX);
            let mock =
                MockExecutor::new(layout.num_blocks, BLOCK_SIZE, vocab_size, step, shared_pool);
            let bytes = layout.num_blocks as usize;
            Box::new(mock.map_err(|source| LoadError::NoMemory { bytes, source })?)
        }
    };
    Ok(Loaded { executor, config, digest: file.digest(), num_blocks: layout.num_blocks })
}

fn kv_layout(config: &ModelConfig, bytes: u64) -> Result<KvLayout, LoadError> {
    let layout = KvLayout {
        num_blocks: 0,
        block_size: BLOCK_SIZE,
        layers: config.num_layers as u32,
        kv_heads: config.kv_heads as u32,
        head_dim: config.head_dim as u32,
    };
    let block = layout.block_bytes() as u64;
    let num_blocks = u32::try_from(bytes / block).unwrap_or(u32::MAX);
    // Slots are counted in 32 bits.
    let num_blocks = num_blocks.min(u32::MAX / BLOCK_SIZE);
    if num_blocks == 0 {
        return Err(LoadError::PoolTooSmall { given: bytes, block });
    }
    Ok(KvLayout { num_blocks, ..layout })
}

/// Names everything that determines the bits of a result: kernels, order of the pool, sampler, and the rope table as this
/// system's libm makes it.
fn numerics_id(kernels: &str, layout: KvLayout, rope: &Rope, config: &ModelConfig) -> String {
    let table = RopeTable::new(rope.dim, rope.theta, rope.freq_factors.as_deref());
    let (block, sampler) = (layout.block_size, sampler::VERSION);
    format!("{kernels}-b{block}/rope-{:016x}/{sampler}", table.fingerprint(config.max_model_len))
}

fn cpu_executor(
    backend: CpuBackend,
    model: Model<CpuBackend>,
    config: &ModelConfig,
    layout: KvLayout,
    shared: bool,
) -> Result<ModelExecutor<CpuBackend>, LoadError> {
    let bytes = layout.total_bytes();
    let cache =
        KvCache::new(layout, shared).map_err(|source| LoadError::NoMemory { bytes, source })?;
    let pool = KvPool { memory: Arc::clone(cache.memory()), layout };
    let kernels = backend.kernels().numerics_id();
    let numerics_id = numerics_id(&format!("{kernels}/kv-f16"), layout, model.rope(), config);
    Ok(ModelExecutor {
        backend,
        model,
        cache,
        pool: Some(pool),
        numerics_id,
        block_size: layout.block_size,
        scratch: Scratch::default(),
    })
}

fn reference_executor(
    backend: ReferenceBackend,
    model: Model<ReferenceBackend>,
    config: &ModelConfig,
    layout: KvLayout,
) -> ModelExecutor<ReferenceBackend> {
    let numerics_id = numerics_id("reference-f32/kv-f32", layout, model.rope(), config);
    let cache = backend.new_cache(
        layout.layers as usize,
        layout.num_blocks as usize,
        layout.block_size as usize,
        layout.kv_heads as usize * layout.head_dim as usize,
    );
    ModelExecutor {
        backend,
        model,
        cache,
        pool: None,
        numerics_id,
        block_size: layout.block_size,
        scratch: Scratch::default(),
    }
}

#[cfg(test)]
mod tests;
