//! An engine that computes nothing: for measuring everything around it, and for trying a cluster without its arithmetic.
//!
//! Scheduler, block manager, hand-off and protocols are the real ones; only the tokens mean nothing, the blocks are tiny, and
//! each step takes a fixed time.

use crate::cpu::KvPool;
use crate::executor::{Executor, Sequences};
use crate::sampler::Sampled;
use estafette_kernels::{KvCache, KvLayout};
use estafette_scheduler::StepPlan;
use estafette_types::{SequenceId, TokenId, TokenLogprob};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens that are words in usual vocabularies, and never special ones.
const TOKENS: Range<u32> = 1000..3000;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct MockExecutor {
    /// Kept for its memory; hand-offs go through `pool`.
    _cache: KvCache,
    pool: KvPool,
    step: Duration,
    vocab_size: u32,
}

impl MockExecutor {
    /// `num_blocks` blocks of `block_size` tokens with one small layer; each step takes `step`.
    pub(crate) fn new(
        num_blocks: u32,
        block_size: u32,
        vocab_size: u32,
        step: Duration,
        shared: bool,
    ) -> io::Result<Self> {
        let layout = KvLayout { num_blocks, block_size, layers: 1, kv_heads: 1, head_dim: 16 };
        let cache = KvCache::new(layout, shared)?;
        let pool = KvPool { memory: Arc::clone(cache.memory()), layout };
        Ok(Self { _cache: cache, pool, step, vocab_size })
    }

    /// Depends on the position alone, so that both legs of a request agree.
    fn token(&self, position: u32) -> TokenId {
        let width = TOKENS.end - TOKENS.start;
        (TOKENS.start + position % width).min(self.vocab_size.saturating_sub(1))
    }
}

impl Executor for MockExecutor {
    fn run(
        &mut self,
        plan: &StepPlan,
        sequences: &dyn Sequences,
        on_layer: &mut dyn FnMut(usize),
    ) -> Vec<(SequenceId, Sampled)> {
        let ends = Instant::now() + self.step;
        on_layer(0);
        let samples = plan.sequences.iter().filter(|scheduled| scheduled.samples);
        let sampled = samples.map(|scheduled| {
            let position = scheduled.start + scheduled.tokens.len() as u32;
            let token = self.token(position);
            let wanted = sequences.params(scheduled.id).logprobs.is_some();
            let logprob = wanted.then(|| TokenLogprob { logprob: 0.0, top: Vec::new() });
            (scheduled.id, Sampled { token, logprob })
        });
        let sampled = sampled.collect();
        std::thread::sleep(ends.saturating_duration_since(Instant::now()));
        sampled
    }

    fn numerics_id(&self) -> String {
        "mock".into()
    }

    fn kv_pool(&self) -> Option<&KvPool> {
        Some(&self.pool)
    }
}
