//! The server processes: settings, logging, runtime, signals, exit code. The same frame around each.

use crate::{EXIT_CONFIG, Supervised};
use anyhow::{Context, Result};
use clap::Args;
use estafette_config::{ConfigErrors, RouterArgs, WorkerArgs, log_filter};
use std::future::Future;
use std::io::Read;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// `estafette router`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RouterProcess {
    #[command(flatten)]
    settings: RouterArgs,
    #[command(flatten)]
    supervised: Supervised,
}

/// `estafette prefill-worker` and `estafette decode-worker`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkerProcess {
    #[command(flatten)]
    settings: WorkerArgs,
    #[command(flatten)]
    supervised: Supervised,
}

pub(crate) fn router(args: RouterProcess) -> Result<()> {
    let settings = args.settings.check()?;
    serve(&args.supervised, router_threads(), |stop| estafette_router::run(settings, stop))
}

pub(crate) fn prefill_worker(args: WorkerProcess) -> Result<()> {
    let settings = args.settings.check()?;
    serve(&args.supervised, SOCKET_THREADS, |stop| estafette_prefill_worker::run(settings, stop))
}

pub(crate) fn decode_worker(args: WorkerProcess) -> Result<()> {
    let settings = args.settings.check()?;
    serve(&args.supervised, SOCKET_THREADS, |stop| estafette_decode_worker::run(settings, stop))
}

/// Runs `process` until it ends; `stop` turns true at the first signal.
fn serve<F, E>(
    supervised: &Supervised,
    threads: usize,
    process: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<()>
where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    estafette_telemetry::init_logging(log_filter().as_deref());
    let runtime = runtime(threads)?;
    let outcome = runtime.block_on(async {
        let (stopper, stop) = watch::channel(false);
        tokio::spawn(stop_on_signal(stopper, supervised.exit_with_parent));
        process(stop).await
    });
    // A read of standard input cannot be interrupted: do not wait for its thread.
    runtime.shutdown_background();
    // Its text names its cause already.
    outcome.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Threads of a process that does little but talk: on small machines the rest belongs to the kernels.
pub(crate) const SOCKET_THREADS: usize = 2;

/// Half of the cores. On two cores one thread answers as many requests as two do, with less CPU and shorter tails: two would
/// hand work back and forth, and wait for cores that workers and clients want too.
fn router_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1)
}

/// A runtime with so many threads.
pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn stop_on_signal(stopper: watch::Sender<bool>, with_parent: bool) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = end_of_stdin(), if with_parent => {}
    }
    let _ = stopper.send(true);
    // Signals after the first one are not listened for on purpose: the drain has its own time limit.
    stopper.closed().await;
}

/// Returns when standard input is closed or cannot be read.
async fn end_of_stdin() {
    let read = || {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
    };
    drop(tokio::task::spawn_blocking(read).await);
}

/// 0, 64 for bad settings, 1 for anything else; the message goes to standard error.
#[expect(clippy::print_stderr, reason = "the last words of a command-line tool")]
pub(crate) fn exit_code(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("estafette: {error:#}");
    if error.is::<ConfigErrors>() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
}
