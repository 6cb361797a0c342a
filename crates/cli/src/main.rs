//! `estafette`: the one binary.
#![forbid(unsafe_code)]

mod access;
mod bench;
mod drain;
mod process;
mod pull;
mod route;
mod simulate;
mod up;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bad settings: the code that sysexits.h calls EX_USAGE.
const EXIT_CONFIG: u8 = 64;

/// Serves large language models from two pools of workers that scale apart.
#[derive(Parser)]
#[command(name = "estafette", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole cluster on this machine: a router, prefill workers and decode workers.
    Up(up::UpArgs),
    /// Start a router.
    Router(process::RouterProcess),
    /// Start a prefill worker.
    PrefillWorker(process::WorkerProcess),
    /// Start a decode worker.
    DecodeWorker(process::WorkerProcess),
    /// Let a worker leave in order: what runs there finishes, or goes on elsewhere.
    Drain(drain::DrainArgs),
    /// Ask a running router about its choices.
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// Get a model from the Hugging Face hub.
    Pull(pull::PullArgs),
    /// Measure the engine alone: prompt and decode speed, as llama-bench does.
    Bench(bench::BenchArgs),
    /// Try routing policies on a trace, in virtual time.
    Simulate(Box<simulate::SimulateArgs>),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_CONFIG } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Up(args) => process::exit_code(up::run(args)),
        Command::Router(args) => process::exit_code(process::router(args)),
        Command::PrefillWorker(args) => process::exit_code(process::prefill_worker(args)),
        Command::DecodeWorker(args) => process::exit_code(process::decode_worker(args)),
        Command::Drain(args) => process::exit_code(drain::run(args)),
        Command::Route(command) => process::exit_code(route::run(command)),
        Command::Pull(args) => process::exit_code(pull::run(&args)),
        Command::Bench(args) => process::exit_code(bench::run(args)),
        Command::Simulate(args) => process::exit_code(simulate::run(*args)),
    }
}

/// Flags that only `estafette up` gives to the processes it starts.
#[derive(Clone, Debug, clap::Args)]
struct Supervised {
    /// Stop when standard input ends, so that no process outlives the one that started it.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}
