//! Measures the engine alone, without sockets, as llama-bench measures llama.cpp.

use crate::engine::{Engine, NoObserver};
use crate::load::{BLOCK_SIZE, BackendOptions, LoadError, LoadOptions, load};
use estafette_scheduler::{AddError, Mode, NewSequence, Scheduler, SchedulerConfig};
use estafette_types::{
    HashSeed, Limits, SamplingParams, SequenceId, SplitMix64, TokenId, block_hashes,
};
use std::path::Path;
use std::time::Instant;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// What runs the model.
    pub backend: BackendOptions,
    /// Bytes for KV blocks.
    pub kv_bytes: u64,
    /// The most rows in one step.
    pub max_rows: u32,
    /// The most sequences at once.
    pub max_seqs: u32,
}

/// An engine under measurement. Greedy, and prompts are random tokens that no prefix cache holds.
#[derive(Debug)]
pub struct Bench {
    engine: Engine,
    params: SamplingParams,
    seed: HashSeed,
    vocab: u64,
    rng: SplitMix64,
    next_id: u64,
}

impl Bench {
    /// Loads the model.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn new(model: &Path, options: BenchOptions) -> Result<Self, LoadError> {
        let (max_rows, max_seqs) = (options.max_rows, options.max_seqs);
        let loaded = load(
            model,
            LoadOptions {
                backend: options.backend,
                kv_bytes: options.kv_bytes,
                max_rows: max_rows as usize,
                max_seqs: max_seqs as usize,
            },
        )?;
        let scheduler = Scheduler::new(SchedulerConfig {
            block_size: BLOCK_SIZE,
            num_blocks: loaded.num_blocks,
            max_num_batched_tokens: max_rows,
            max_num_seqs: max_seqs,
            max_waiting: max_seqs,
            max_model_len: u32::try_from(loaded.config.max_model_len).unwrap_or(u32::MAX),
        });
        Ok(Self {
            engine: Engine::new(scheduler, loaded.executor),
            params: SamplingParams::greedy(),
            seed: HashSeed::new(&loaded.digest, "", ""),
            vocab: loaded.config.vocab_size as u64,
            rng: SplitMix64::new(1),
            next_id: 0,
        })
    }

    /// How tokens are chosen from here on.
    pub fn set_sampling(&mut self, params: SamplingParams) {
        self.params = params;
    }

    /// Prompt tokens per second of a prompt of `len` tokens, up to and including the first token.
    ///
    /// # Errors
    /// When the engine refuses the prompt.
    pub fn prefill(&mut self, len: usize) -> Result<f64, AddError> {
        let prompt = self.prompt(len);
        let began = Instant::now();
        self.submit(prompt, 1)?;
        while self.engine.step(&mut NoObserver).is_some() {}
        Ok(len as f64 / began.elapsed().as_secs_f64())
    }

    /// Generated tokens per second of `batch` sequences together, in `steps` steps after one prompt of `prompt_len` tokens
    /// that they share.
    ///
    /// # Errors
    /// When the engine refuses the prompts.
    pub fn decode(&mut self, batch: u32, prompt_len: usize, steps: u32) -> Result<f64, AddError> {
        let prompt = self.prompt(prompt_len);
        let first = self.next_id + 1;
        for _ in 0..batch {
            // Those that start first must not end before the last one has been measured.
            self.submit(prompt.clone(), u32::MAX)?;
        }
        while self.engine.scheduler.load().decoding_sequences < u64::from(batch) {
            self.engine.step(&mut NoObserver);
        }
        let began = Instant::now();
        for _ in 0..steps {
            self.engine.step(&mut NoObserver);
        }
        let elapsed = began.elapsed();
        for id in first..=self.next_id {
            self.engine.cancel(SequenceId(id));
        }
        Ok(f64::from(steps * batch) / elapsed.as_secs_f64())
    }

    fn prompt(&mut self, len: usize) -> Vec<TokenId> {
        (0..len).map(|_| self.rng.below(self.vocab) as TokenId).collect()
    }

    fn submit(&mut self, prompt: Vec<TokenId>, max_tokens: u32) -> Result<(), AddError> {
        self.next_id += 1;
        let new = NewSequence {
            id: SequenceId(self.next_id),
            hashes: block_hashes(self.seed, &prompt, BLOCK_SIZE as usize),
            prompt,
            seed: self.seed,
            limits: Limits { max_tokens, stop_token_ids: Vec::new(), ignore_eos: true },
            mode: Mode::Local,
        };
        self.engine.submit(new, self.params.clone())
    }
}
