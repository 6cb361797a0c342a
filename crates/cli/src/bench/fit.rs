//! `estafette bench --fit`: how long this machine's worker takes for its steps, as the simulator reads it.

mod sharing;

use anyhow::{Context, Result, ensure};
use clap::Args;
use estafette_engine::bench::{Bench, BenchOptions, StepGrid, StepSample, StepShape};
use estafette_engine::{BLOCK_SIZE, BackendOptions};
use estafette_simulator::{
    Fit, FitErrors, Measured, MeasuredStep, Sharing, StepTimes, StepWork, fit,
};
use estafette_types::ByteSize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Flags of `--fit`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Step times for the simulator")]
pub(super) struct FitArgs {
    /// Measure single steps instead, and write what `estafette simulate --step-times` reads.
    #[arg(long, value_name = "FILE")]
    pub(super) fit: Option<PathBuf>,
    /// The most tokens in one step, as workers have it.
    #[arg(long, default_value_t = 512, requires = "fit")]
    max_num_batched_tokens: u32,
    /// The most sequences that run at once, as workers have it.
    #[arg(long, default_value_t = 64, requires = "fit")]
    max_num_seqs: u32,
    /// Memory for KV blocks, as workers have it.
    #[arg(long, default_value = "512MiB", requires = "fit")]
    kv_memory: ByteSize,
}

/// Milliseconds of each step, in the order of the rounds.
type Samples = BTreeMap<StepShape, Vec<f64>>;

pub(super) fn run(
    args: &FitArgs,
    model: &Path,
    backend: BackendOptions,
    rounds: u32,
    path: &Path,
) -> Result<()> {
    let (max_rows, max_seqs) = (args.max_num_batched_tokens, args.max_num_seqs);
    ensure!(max_rows >= 16, "`--max-num-batched-tokens` must be at least 16");
    ensure!((16..=max_rows).contains(&max_seqs), "`--max-num-seqs` must be 16 to the former");
    let options = BenchOptions { backend, kv_bytes: super::KV_BYTES, max_rows, max_seqs };
    let mut bench = Bench::new(model, options)?;
    let grid = StepGrid::new(max_rows, max_seqs);
    let alone = measure(&mut bench, &grid, rounds)?;
    let kv_bytes_per_token = bench.kv_bytes_per_token();
    let block = kv_bytes_per_token * u64::from(BLOCK_SIZE);
    ensure!(block > 0, "this backend keeps no KV to measure");
    let about = Measured {
        name: name(model, backend),
        kv_bytes_per_token,
        kv_tokens: args.kv_memory.0 / block * u64::from(BLOCK_SIZE),
    };
    let Fit { mut times, prompts, decodes, mixed } = fit(&about, &steps(&alone))?;
    times.sharing = Some(sharing::measure(&mut bench, &grid.coarse(), rounds, || {
        Ok(Bench::new(model, options)?)
    })?);
    write(&times, path)?;
    report(&times, &[("prompts", prompts), ("decodes", decodes), ("both", mixed)]);
    Ok(())
}

fn name(model: &Path, backend: BackendOptions) -> String {
    let file = model.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    match backend {
        BackendOptions::Cpu { tier, threads, .. } => {
            format!("{file}, {threads} threads, {tier:?}")
        }
        BackendOptions::Reference | BackendOptions::Mock { .. } => file,
    }
}

/// Whole rounds one after the other, so that a moment's disturbance spoils one sample of some steps, not all of one.
fn measure(bench: &mut Bench, grid: &StepGrid, rounds: u32) -> Result<Samples> {
    let mut samples = Samples::new();
    for _ in 0..rounds {
        for StepSample { shape, micros } in bench.steps(grid)? {
            samples.entry(shape).or_default().push(micros.max(1) as f64 / 1e3);
        }
    }
    Ok(samples)
}

fn steps(samples: &Samples) -> Vec<MeasuredStep> {
    let step = |(shape, ms): (&StepShape, &Vec<f64>)| {
        let StepShape { chunks, sequences, context_tokens } = shape.clone();
        MeasuredStep { work: StepWork { chunks, sequences, context_tokens }, ms: median(ms) }
    };
    samples.iter().map(step).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(1.0)
}

fn write(times: &StepTimes, path: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(times).context("the step times are no JSON")?;
    fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "the figures are the command's result")]
fn report(times: &StepTimes, kinds: &[(&str, FitErrors)]) {
    println!("{}", times.name);
    for (kind, errors) in kinds {
        println!(
            "{kind:8} {:3} steps left out of the fit: off by {:.1} % in the middle, {:.1} % at worst",
            errors.steps,
            100.0 * errors.median,
            100.0 * errors.worst
        );
    }
    if let Some(Sharing { prompts, decodes }) = times.sharing {
        println!(
            "beside a second worker on the same cores: prompts {prompts:.2}, decodes {decodes:.2} times as long"
        );
    }
}

#[cfg(test)]
mod tests;
