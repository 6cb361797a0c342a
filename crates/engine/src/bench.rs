//! Measures the engine alone, without sockets, as llama-bench measures llama.cpp.

mod steps;

pub use steps::{Neighbour, StepGrid, StepSample, StepShape};

use crate::engine::{Engine, EngineEvent, NoObserver};
use crate::load::{BLOCK_SIZE, BackendOptions, LoadError, LoadOptions, Loaded, load};
use estafette_scheduler::{AddError, Mode, NewSequence, Scheduler, SchedulerConfig};
use estafette_types::{
    HashSeed, Limits, SamplingParams, SequenceId, SplitMix64, TokenId, block_hashes,
};
use std::path::Path;
use std::time::Instant;
use thiserror::Error;

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

/// Why there is no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BenchError {
    /// The engine does not take a prompt.
    #[error(transparent)]
    Refused(#[from] AddError),
    /// What is to be measured does not fit.
    #[error("{needed} {what} are needed and {there} are there")]
    NoRoom {
        /// Of what.
        what: &'static str,
        /// For the measurement.
        needed: u64,
        /// In this engine.
        there: u64,
    },
    /// A sequence reached the end of its context, or of the pool, while the others were not done.
    #[error("a sequence ended before all were measured: fewer or shorter ones fit")]
    Ended,
    /// There was nothing to run although sequences wait.
    #[error("the engine stopped before everything was measured")]
    Idle,
}

/// An engine under measurement. Greedy, and prompts are random tokens that no prefix cache holds.
#[derive(Debug)]
pub struct Bench {
    engine: Engine,
    config: SchedulerConfig,
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
        let load_options = LoadOptions {
            backend: options.backend,
            kv_bytes: options.kv_bytes,
            max_rows: options.max_rows as usize,
            max_seqs: options.max_seqs as usize,
        };
        Ok(Self::over(load(model, load_options)?, options))
    }

    fn over(loaded: Loaded, options: BenchOptions) -> Self {
        let config = SchedulerConfig {
            block_size: BLOCK_SIZE,
            num_blocks: loaded.num_blocks,
            max_num_batched_tokens: options.max_rows,
            max_num_seqs: options.max_seqs,
            max_waiting: options.max_seqs,
            max_model_len: u32::try_from(loaded.config.max_model_len).unwrap_or(u32::MAX),
        };
        Self {
            engine: Engine::new(Scheduler::new(config), loaded.executor),
            config,
            params: SamplingParams::greedy(),
            seed: HashSeed::new(&loaded.digest, "", ""),
            vocab: loaded.config.vocab_size as u64,
            rng: SplitMix64::new(1),
            next_id: 0,
        }
    }

    /// Bytes of KV of one token, all layers; 0 when the engine keeps none.
    pub fn kv_bytes_per_token(&self) -> u64 {
        let pool = self.engine.executor().kv_pool();
        pool.map_or(0, |pool| pool.layout.block_bytes() as u64 / u64::from(BLOCK_SIZE))
    }

    /// How tokens are chosen from here on.
    pub fn set_sampling(&mut self, params: SamplingParams) {
        self.params = params;
    }

    /// Prompt tokens per second of a prompt of `len` tokens, up to and including the first token.
    ///
    /// # Errors
    /// When the engine refuses the prompt, or does not answer it.
    pub fn prefill(&mut self, len: usize) -> Result<f64, BenchError> {
        let prompt = self.prompt(len);
        let began = Instant::now();
        self.submit(prompt, 1)?;
        let mut produced = 0;
        while let Some(events) = self.engine.step(&mut NoObserver) {
            produced += tokens(&events);
        }
        if produced == 0 {
            return Err(BenchError::Idle);
        }
        Ok(len as f64 / began.elapsed().as_secs_f64())
    }

    /// Generated tokens per second of `batch` sequences together, in `steps` steps after one prompt of `prompt_len` tokens
    /// that they share.
    ///
    /// # Errors
    /// When the engine refuses the prompts, or has no room for all sequences until the end.
    pub fn decode(&mut self, batch: u32, prompt_len: usize, steps: u32) -> Result<f64, BenchError> {
        self.check_room(batch, prompt_len, steps)?;
        let first = self.next_id + 1;
        let measured = self.measure_decode(batch, prompt_len, steps);
        for id in first..=self.next_id {
            self.engine.cancel(SequenceId(id));
        }
        measured
    }

    fn measure_decode(
        &mut self,
        batch: u32,
        prompt_len: usize,
        steps: u32,
    ) -> Result<f64, BenchError> {
        let prompt = self.prompt(prompt_len);
        for _ in 0..batch {
            // Those that start first must not end before the last one has been measured.
            self.submit(prompt.clone(), u32::MAX)?;
        }
        while self.engine.scheduler.load().decoding_sequences < u64::from(batch) {
            self.step()?;
        }
        let began = Instant::now();
        let mut produced = 0;
        for _ in 0..steps {
            produced += self.step()?;
        }
        Ok(produced as f64 / began.elapsed().as_secs_f64())
    }

    /// Whether every sequence can have its prompt, the token of its last prompt row and one for each step.
    fn check_room(&self, batch: u32, prompt_len: usize, steps: u32) -> Result<(), BenchError> {
        let config = &self.config;
        let enough = |what, needed: u64, there: u64| {
            if needed <= there { Ok(()) } else { Err(BenchError::NoRoom { what, needed, there }) }
        };
        enough("sequences at once", batch.into(), config.max_num_seqs.into())?;
        let tokens = prompt_len as u64 + 1 + u64::from(steps);
        enough("tokens of context", tokens, config.max_model_len.into())?;
        let block = u64::from(config.block_size);
        let shared = (prompt_len as u64).saturating_sub(1) / block;
        let blocks = shared + u64::from(batch) * (tokens.div_ceil(block) - shared);
        enough("blocks of KV memory", blocks, config.num_blocks.into())
    }

    /// Runs a step; how many tokens it produced.
    fn step(&mut self) -> Result<usize, BenchError> {
        let events = self.engine.step(&mut NoObserver).ok_or(BenchError::Idle)?;
        if events.iter().any(|event| matches!(event, EngineEvent::Finished { .. })) {
            return Err(BenchError::Ended);
        }
        Ok(tokens(&events))
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
            output: Vec::new(),
            seed: self.seed,
            limits: Limits { max_tokens, stop_token_ids: Vec::new(), ignore_eos: true },
            mode: Mode::Local,
        };
        self.engine.submit(new, self.params.clone())
    }
}

fn tokens(events: &[EngineEvent]) -> usize {
    events.iter().filter(|event| matches!(event, EngineEvent::Token { .. })).count()
}

#[cfg(test)]
mod tests;
