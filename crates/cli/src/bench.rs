//! `estafette bench`: the engine alone, without sockets, as llama-bench measures llama.cpp.
//!
//! Prints one JSON line for each measurement, so that a script can interleave runs of several engines.

use anyhow::{Context, Result, ensure};
use clap::Args;
use estafette_config::{available_threads, model_path};
use estafette_engine::{BLOCK_SIZE, BackendOptions, Engine, LoadOptions, NoObserver, load};
use estafette_kernels::Tier;
use estafette_scheduler::{Mode, NewSequence, Scheduler, SchedulerConfig};
use estafette_types::{
    HashSeed, Limits, SamplingParams, SequenceId, SplitMix64, TokenId, block_hashes,
};
use std::path::PathBuf;
use std::time::Instant;

/// Flags of `estafette bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// The model: a GGUF file.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Threads that compute; 0 means one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 32)]
    generate: usize,
    /// Sequences that decode at once after a shared prompt.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Kernel tier; the best this processor has by default.
    #[arg(long)]
    kernel_tier: Option<String>,
}

/// Room for the largest measurement.
const KV_BYTES: u64 = 1 << 30;

pub(crate) fn run(args: BenchArgs) -> Result<()> {
    ensure!(args.prompt >= 1 && args.generate >= 1 && args.batch >= 1, "nothing to measure");
    let mut bench = Bench::new(&args)?;
    for _ in 0..args.repetitions {
        let prompt = bench.prompt(args.prompt);
        let speed = bench.prefill(prompt)?;
        report(&format!("pp{}", args.prompt), speed);
        let speed = bench.decode(1, 1, args.generate)?;
        report(&format!("tg{}", args.generate), speed);
        let speed = bench.decode(args.batch, args.prompt, args.generate)?;
        report(&format!("tg{}@{}x{}", args.generate, args.prompt, args.batch), speed);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are the command's result")]
fn report(metric: &str, tok_per_s: f64) {
    println!(
        "{{\"engine\": \"estafette\", \"metric\": \"{metric}\", \"tok_per_s\": {tok_per_s:.2}}}"
    );
}

struct Bench {
    engine: Engine,
    seed: HashSeed,
    vocab: u64,
    rng: SplitMix64,
    next_id: u64,
}

impl Bench {
    fn new(args: &BenchArgs) -> Result<Self> {
        let model = model_path(args.model.clone())?;
        let tier = match &args.kernel_tier {
            Some(name) => name.parse().map_err(|e| anyhow::anyhow!("`--kernel-tier`: {e}"))?,
            None => Tier::detect(),
        };
        let threads = if args.threads == 0 { available_threads() } else { args.threads };
        let backend = BackendOptions::Cpu { tier, threads, shared_pool: false };
        let max_rows = args.prompt.max(args.batch);
        let loaded = load(&model, LoadOptions { backend, kv_bytes: KV_BYTES, max_rows })?;
        let scheduler = Scheduler::new(SchedulerConfig {
            block_size: BLOCK_SIZE,
            num_blocks: loaded.num_blocks,
            max_num_batched_tokens: u32::try_from(max_rows)?,
            max_num_seqs: u32::try_from(args.batch)?,
            max_waiting: u32::try_from(args.batch)?,
            max_model_len: u32::try_from(loaded.config.max_model_len)?,
        });
        Ok(Self {
            engine: Engine::new(scheduler, loaded.executor),
            seed: HashSeed::new(&loaded.digest, "", ""),
            vocab: loaded.config.vocab_size as u64,
            rng: SplitMix64::new(1),
            next_id: 0,
        })
    }

    /// Random tokens: never in the prefix cache.
    fn prompt(&mut self, len: usize) -> Vec<TokenId> {
        (0..len).map(|_| self.rng.below(self.vocab) as TokenId).collect()
    }

    fn submit(&mut self, prompt: Vec<TokenId>, max_tokens: usize) -> Result<()> {
        self.next_id += 1;
        let new = NewSequence {
            id: SequenceId(self.next_id),
            hashes: block_hashes(self.seed, &prompt, BLOCK_SIZE as usize),
            prompt,
            seed: self.seed,
            limits: Limits {
                max_tokens: u32::try_from(max_tokens)?,
                stop_token_ids: Vec::new(),
                ignore_eos: true,
            },
            mode: Mode::Local,
        };
        self.engine.submit(new, SamplingParams::greedy()).context("the engine refused the bench")
    }

    /// Steps until `done`; the number of steps.
    fn run_until(&mut self, mut done: impl FnMut(&Engine) -> bool) -> usize {
        let mut steps = 0;
        while !done(&self.engine) && self.engine.step(&mut NoObserver).is_some() {
            steps += 1;
        }
        steps
    }

    /// Prompt tokens per second, up to and including the first token.
    fn prefill(&mut self, prompt: Vec<TokenId>) -> Result<f64> {
        let tokens = prompt.len();
        self.submit(prompt, 1)?;
        let began = Instant::now();
        self.run_until(|_| false);
        Ok(tokens as f64 / began.elapsed().as_secs_f64())
    }

    /// Generated tokens per second of `batch` sequences together, prompts not counted.
    fn decode(&mut self, batch: usize, prompt_len: usize, generate: usize) -> Result<f64> {
        let prompt = self.prompt(prompt_len);
        for _ in 0..batch {
            self.submit(prompt.clone(), generate + 1)?;
        }
        self.run_until(|engine| {
            let load = engine.scheduler.load();
            load.decoding_sequences == batch as u64
        });
        let began = Instant::now();
        let steps = self.run_until(|_| false);
        Ok((steps * batch) as f64 / began.elapsed().as_secs_f64())
    }
}
