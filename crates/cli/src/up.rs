//! `estafette up`: a whole cluster on one machine, each part a process of its own.
//!
//! The parts are this same binary. They run in process groups of their own, so Ctrl-C reaches only this
//! process, which then stops them in order: the router first, so that nothing new comes in, then the workers.
//! Their standard input is a pipe from here: if this process is killed, they notice and leave.
//!
//! A worker that leaves in order, because somebody drained it, is not missed: the rest goes on without it, and when the
//! last decode worker has left so does the whole cluster. Any other end of a part, which none should have, ends them all.

mod children;
mod ready;

use crate::process::{SOCKET_THREADS, runtime};
use anyhow::{Context, Result, anyhow, bail};
use children::{Child, Children};
use clap::Args;
use estafette_config::{
    Admission, ConfigError, ConfigErrors, EngineArgs, RouterArgs, TlsArgs, Transport, WorkerArgs,
};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of `estafette up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// The model: a GGUF file. The default model of `make model` when left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Prefill workers to start; 0 serves aggregated.
    #[arg(long, default_value_t = 1)]
    prefill: usize,
    /// Decode workers to start.
    #[arg(long, default_value_t = 1)]
    decode: usize,
    /// Address of the OpenAI-compatible HTTP API.
    #[arg(long, default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// Address of the gRPC API.
    #[arg(long, default_value = "127.0.0.1:8001")]
    grpc: SocketAddr,
    /// Name under which clients ask for the model; the file's name when left out.
    #[arg(long)]
    served_model_name: Option<String>,
    /// How KV blocks travel from prefill to decode workers.
    #[arg(long, value_enum, default_value = "auto")]
    transport: Transport,
    /// Keys of clients, as SHA-256 in hex, one a line: what `printf %s KEY | sha256sum` prints. Without it everybody is
    /// let in.
    #[arg(long)]
    api_keys: Option<PathBuf>,
    /// Certificates between the processes.
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    admission: Admission,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Loading and joining take seconds; a machine under load gets plenty.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// The router answers what is running first.
const ROUTER_STOP_TIMEOUT: Duration = Duration::from_secs(20);
const WORKER_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// More processes than this on one machine are a typing mistake.
const WORKERS_MAX: usize = 64;

pub(crate) fn run(args: UpArgs) -> Result<()> {
    check(&args)?;
    for (what, address) in [("HTTP", args.http), ("gRPC", args.grpc)] {
        // Found here, before anything starts: another router on the port would answer in place of ours.
        TcpListener::bind(address)
            .map_err(|error| anyhow!("cannot listen on {address} for {what}: {error}"))?;
    }
    runtime(SOCKET_THREADS)?.block_on(supervise(args))
}

/// Finds bad flags before any process starts, in the words of the process that would refuse them; each once.
fn check(args: &UpArgs) -> Result<(), ConfigErrors> {
    let mut problems = Vec::new();
    let checks = [router_args(args).check().err(), worker_args(args).check().err()];
    for ConfigErrors(found) in checks.into_iter().flatten() {
        problems.extend(found);
    }
    let own = [
        (args.http.port() != 0, "--http", "a port must be named".to_owned()),
        (args.grpc.port() != 0, "--grpc", "a port must be named".to_owned()),
        (args.decode > 0, "--decode", "at least one decode worker is needed".to_owned()),
        (
            args.prefill + args.decode <= WORKERS_MAX,
            "--prefill",
            format!("at most {WORKERS_MAX} workers together with --decode on one machine"),
        ),
    ];
    let wrong = own.into_iter().filter(|(fine, ..)| !fine);
    problems.extend(wrong.map(|(_, flag, problem)| ConfigError::Invalid { flag, problem }));
    problems.dedup();
    if problems.is_empty() { Ok(()) } else { Err(ConfigErrors(problems)) }
}

fn router_args(args: &UpArgs) -> RouterArgs {
    let defaults = Defaults::router();
    RouterArgs {
        model: args.model.clone(),
        served_model_name: args.served_model_name.clone(),
        http: args.http,
        grpc: args.grpc,
        admission: args.admission.clone(),
        tls: args.tls.clone(),
        api_keys: args.api_keys.clone(),
        ..defaults
    }
}

fn worker_args(args: &UpArgs) -> WorkerArgs {
    WorkerArgs {
        model: args.model.clone(),
        router: args.grpc.to_string(),
        transport: args.transport,
        tls: args.tls.clone(),
        engine: args.engine.clone(),
        ..Defaults::worker()
    }
}

/// The defaults of the other commands, from their own declarations.
struct Defaults;

impl Defaults {
    fn router() -> RouterArgs {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            args: RouterArgs,
        }
        <Flags as clap::Parser>::parse_from(["router"]).args
    }

    fn worker() -> WorkerArgs {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            args: WorkerArgs,
        }
        <Flags as clap::Parser>::parse_from(["worker"]).args
    }
}

async fn supervise(args: UpArgs) -> Result<()> {
    let mut signals = children::Signals::listen().context("cannot listen for signals")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut children = Children::default();
    let serving = async {
        announce(&args, &start(&args, &program, &mut children).await?);
        while children.any(|name| name.starts_with("decode")) {
            let ended = children.first_to_end().await;
            if !ended.has_left_in_order() {
                return Err(ended.into_error());
            }
            goodbye(&ended);
        }
        Ok(())
    };
    let outcome = tokio::select! {
        ended = serving => ended,
        () = signals.first() => Ok(()),
    };
    stop(children, &mut signals).await;
    outcome
}

/// Starts every process and waits until the router has all workers.
async fn start(args: &UpArgs, program: &Path, children: &mut Children) -> Result<ready::Ready> {
    let progress = ready::Progress::start(args.prefill + args.decode);
    children.push(Child::start(children::ROUTER, program, &router_flags(args))?);
    for (count, command) in [(args.prefill, "prefill-worker"), (args.decode, "decode-worker")] {
        for i in 0..count {
            let name = format!("{}-{i}", command.trim_end_matches("-worker"));
            children.push(Child::start(&name, program, &worker_flags(args, command, &name))?);
        }
    }
    let ready = tokio::select! {
        ready = ready::wait(args.http, args.prefill, args.decode, &progress) => ready,
        ended = children.first_to_end() => return Err(ended.into_error()),
        () = tokio::time::sleep(READY_TIMEOUT) => {
            bail!("not ready after {} s", READY_TIMEOUT.as_secs())
        }
    };
    progress.finish();
    Ok(ready)
}

fn router_flags(args: &UpArgs) -> Vec<String> {
    let admission = &args.admission;
    let mut flags = vec![
        "router".into(),
        format!("--http={}", args.http),
        format!("--grpc={}", args.grpc),
        format!("--max-concurrent-requests={}", admission.max_concurrent_requests),
        format!("--max-waiting-requests={}", admission.max_waiting_requests),
        format!("--max-wait={}ms", admission.max_wait.as_millis()),
        format!("--queue-order={}", children::flag_value(&admission.queue_order)),
        format!("--request-timeout={}ms", admission.request_timeout.as_millis()),
        format!("--retry-budget={}", admission.retry_budget),
    ];
    flags.extend(args.model.as_ref().map(|m| format!("--model={}", m.display())));
    flags.extend(args.tls.flags());
    flags.extend(args.api_keys.as_ref().map(|path| format!("--api-keys={}", path.display())));
    flags.extend(args.served_model_name.as_ref().map(|n| format!("--served-model-name={n}")));
    flags
}

fn worker_flags(args: &UpArgs, command: &str, name: &str) -> Vec<String> {
    let engine = &args.engine;
    let mut flags = vec![
        command.to_owned(),
        format!("--id={name}"),
        format!("--router={}", args.grpc),
        format!("--transport={}", children::flag_value(&args.transport)),
        format!("--threads={}", engine.threads),
        format!("--kv-memory={}", engine.kv_memory),
        format!("--max-num-batched-tokens={}", engine.max_num_batched_tokens),
        format!("--max-num-seqs={}", engine.max_num_seqs),
        format!("--max-waiting={}", engine.max_waiting),
        format!("--max-model-len={}", engine.max_model_len),
        format!("--layers-per-group={}", engine.layers_per_group),
        format!("--backend={}", children::flag_value(&engine.backend)),
        format!("--mock-step={}us", engine.mock_step.as_micros()),
        format!("--drain-timeout={}s", WORKER_STOP_TIMEOUT.as_secs() / 2),
    ];
    flags.extend(args.model.as_ref().map(|m| format!("--model={}", m.display())));
    flags.extend(args.tls.flags());
    flags.extend(engine.kernel_tier.as_ref().map(|t| format!("--kernel-tier={t}")));
    flags
}

#[expect(clippy::print_stdout, reason = "tells the person at the terminal where to go")]
fn announce(args: &UpArgs, ready: &ready::Ready) {
    println!(
        "\nEstafette serves {} with {} prefill and {} decode worker(s).\n\
         HTTP  http://{}\n\
         gRPC  {}\n\n\
         Try it:\n\
         curl http://{}/v1/chat/completions -H 'content-type: application/json' \\\n  \
         -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"What is a relay race?\"}}]}}'\n\n\
         Ctrl-C stops everything.",
        ready.model, args.prefill, args.decode, args.http, args.grpc, args.http, ready.model
    );
}

#[expect(clippy::print_stdout, reason = "tells the person at the terminal who is gone")]
fn goodbye(ended: &children::Ended) {
    println!("{} has left.", ended.name());
}

/// Router first, then the workers; a second signal ends them at once.
async fn stop(mut children: Children, signals: &mut children::Signals) {
    let orderly = async {
        children.stop(|name| name == children::ROUTER, ROUTER_STOP_TIMEOUT).await;
        children.stop(|_| true, WORKER_STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = orderly => {}
        () = signals.first() => {}
    }
    // Whoever is left is killed with its handle.
    drop(children);
}
