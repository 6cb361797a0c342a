//! `estafette bench`: the engine alone, without sockets, as llama-bench measures llama.cpp.
//!
//! With `--fit`, single steps instead, for the simulator. Else prints one JSON line for each measurement, so that a script can interleave runs of several engines.

mod fit;

use anyhow::{Context, Result, ensure};
use clap::Args;
use estafette_config::{available_threads, model_path};
use estafette_engine::BackendOptions;
use estafette_engine::bench::{Bench, BenchOptions};
use estafette_kernels::Tier;
use std::path::PathBuf;

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
    prompt: u32,
    /// Tokens to generate.
    #[arg(long, default_value_t = 32)]
    generate: u32,
    /// Sequences that decode at once after a shared prompt.
    #[arg(long, default_value_t = 16)]
    batch: u32,
    /// How often each is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Kernel tier; the best this processor has by default.
    #[arg(long)]
    kernel_tier: Option<String>,
    #[command(flatten)]
    fit: fit::FitArgs,
}

/// Room for the largest measurement.
const KV_BYTES: u64 = 1 << 30;

pub(crate) fn run(args: BenchArgs) -> Result<()> {
    ensure!(args.prompt >= 1 && args.generate >= 1 && args.batch >= 1, "nothing to measure");
    let model = model_path(args.model)?;
    let tier = Tier::choose(args.kernel_tier.as_deref()).context("`--kernel-tier`")?;
    let threads = if args.threads == 0 { available_threads() } else { args.threads };
    let backend = BackendOptions::Cpu { tier, threads, shared_pool: false };
    if let Some(path) = &args.fit.fit {
        return fit::run(&args.fit, &model, backend, args.repetitions, path);
    }
    let max_rows = args.prompt.max(args.batch);
    let options = BenchOptions { backend, kv_bytes: KV_BYTES, max_rows, max_seqs: args.batch };
    let mut bench = Bench::new(&model, options)?;
    let prompt = args.prompt as usize;
    for _ in 0..args.repetitions {
        report(&format!("pp{prompt}"), bench.prefill(prompt)?);
        report(&format!("tg{}", args.generate), bench.decode(1, 1, args.generate)?);
        let speed = bench.decode(args.batch, prompt, args.generate)?;
        report(&format!("tg{}@{prompt}x{}", args.generate, args.batch), speed);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are the command's result")]
fn report(metric: &str, tok_per_s: f64) {
    println!(
        "{{\"engine\": \"estafette\", \"metric\": \"{metric}\", \"tok_per_s\": {tok_per_s:.2}}}"
    );
}
