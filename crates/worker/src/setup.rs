//! From settings to a loaded engine.

use crate::error::WorkerError;
use estafette_config::{BackendKind, EngineSettings};
use estafette_engine::{BLOCK_SIZE, BackendOptions, Engine, LoadOptions, Loaded, load};
use estafette_kernels::Tier;
use estafette_scheduler::{Scheduler, SchedulerConfig};
use estafette_types::HashSeed;
use std::path::Path;

/// An engine and what the worker must know about it.
pub(crate) struct Setup {
    pub(crate) engine: Engine,
    pub(crate) seed: HashSeed,
    pub(crate) model_digest: [u8; 32],
    pub(crate) vocab_size: u32,
    pub(crate) max_model_len: u32,
}

/// Loads the model and makes the scheduler. Takes seconds and all cores: call it where blocking is fine.
pub(crate) fn setup(
    model: &Path,
    settings: &EngineSettings,
    shared_pool: bool,
) -> Result<Setup, WorkerError> {
    let options = LoadOptions {
        backend: backend(settings, shared_pool)?,
        kv_bytes: settings.kv_memory.0,
        max_rows: settings.max_num_batched_tokens as usize,
        max_seqs: settings.max_num_seqs as usize,
    };
    let Loaded { executor, config, digest, num_blocks } = load(model, options)?;
    let limit = u32::try_from(config.max_model_len).unwrap_or(u32::MAX);
    let max_model_len = settings.max_model_len.unwrap_or(limit);
    if max_model_len > limit {
        return Err(WorkerError::ModelLen { asked: max_model_len, limit });
    }
    // What a sequence can have when it has the pool alone.
    let pool_tokens = num_blocks.saturating_mul(BLOCK_SIZE);
    let scheduler = Scheduler::new(SchedulerConfig {
        block_size: BLOCK_SIZE,
        num_blocks,
        max_num_batched_tokens: settings.max_num_batched_tokens,
        max_num_seqs: settings.max_num_seqs,
        max_waiting: settings.max_waiting,
        max_model_len,
    });
    Ok(Setup {
        engine: Engine::new(scheduler, executor),
        seed: HashSeed::new(&digest, "", ""),
        model_digest: digest,
        vocab_size: u32::try_from(config.vocab_size).unwrap_or(u32::MAX),
        max_model_len: max_model_len.min(pool_tokens),
    })
}

fn backend(settings: &EngineSettings, shared_pool: bool) -> Result<BackendOptions, WorkerError> {
    match settings.backend {
        BackendKind::Cpu => {
            let tier = Tier::choose(settings.kernel_tier.as_deref())?;
            Ok(BackendOptions::Cpu { tier, threads: settings.threads, shared_pool })
        }
        BackendKind::Reference => Ok(BackendOptions::Reference),
        BackendKind::Mock => Ok(BackendOptions::Mock { step: settings.mock_step, shared_pool }),
    }
}
