//! From a model file to an executor.

use crate::cpu::{CpuBackend, KvPool};
use crate::executor::{Executor, ModelExecutor};
use crate::sampler::Scratch;
use estafette_gguf::GgufFile;
use estafette_kernels::{KvCache, KvLayout, Tier};
use estafette_model::{Model, ModelConfig, ModelError, ReferenceBackend, Room};
use std::io;
use std::path::Path;
use std::sync::Arc;
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
    /// SHA-256 of the file's header.
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
    /// The file is not a model that can be run.
    #[error(transparent)]
    Model(#[from] ModelError),
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
    load_file(&GgufFile::open(path).map_err(ModelError::from)?, options)
}

pub(crate) fn load_file(file: &GgufFile, options: LoadOptions) -> Result<Loaded, LoadError> {
    let config = ModelConfig::from_gguf(file)?;
    let digest = file.digest();
    let layout = kv_layout(&config, options.kv_bytes)?;
    let room = Room { rows: options.max_rows, logit_rows: options.max_seqs };
    let executor: Box<dyn Executor> = match options.backend {
        BackendOptions::Cpu { tier, threads, shared_pool } => {
            let backend = CpuBackend::new(tier, threads);
            Box::new(load_cpu(file, backend, layout, room, shared_pool)?)
        }
        BackendOptions::Reference => Box::new(load_reference(file, layout, room)?),
    };
    Ok(Loaded { executor, config, digest, num_blocks: layout.num_blocks })
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
    let num_blocks = u32::try_from(bytes / block).unwrap_or(u32::MAX / BLOCK_SIZE);
    if num_blocks == 0 {
        return Err(LoadError::PoolTooSmall { given: bytes, block });
    }
    Ok(KvLayout { num_blocks, ..layout })
}

fn load_cpu(
    file: &GgufFile,
    mut backend: CpuBackend,
    layout: KvLayout,
    room: Room,
    shared: bool,
) -> Result<ModelExecutor<CpuBackend>, LoadError> {
    let model = Model::load(file, &mut backend, room)?;
    let bytes = layout.total_bytes();
    let cache =
        KvCache::new(layout, shared).map_err(|source| LoadError::NoMemory { bytes, source })?;
    let pool = KvPool { memory: Arc::clone(cache.memory()), layout };
    let numerics_id = format!("{}/kv-f16-b{}", backend.kernels().numerics_id(), layout.block_size);
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

fn load_reference(
    file: &GgufFile,
    layout: KvLayout,
    room: Room,
) -> Result<ModelExecutor<ReferenceBackend>, LoadError> {
    let mut backend = ReferenceBackend;
    let model = Model::load(file, &mut backend, room)?;
    let cache = backend.new_cache(
        layout.layers as usize,
        layout.num_blocks as usize,
        layout.block_size as usize,
        layout.kv_heads as usize * layout.head_dim as usize,
    );
    Ok(ModelExecutor {
        backend,
        model,
        cache,
        pool: None,
        numerics_id: format!("reference-f32/kv-f32-b{}", layout.block_size),
        block_size: layout.block_size,
        scratch: Scratch::default(),
    })
}

#[cfg(test)]
mod tests;
