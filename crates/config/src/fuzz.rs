//! Entry point of the fuzzers: settings.

use crate::{RouterArgs, TlsArgs, WorkerArgs};
use clap::Parser;

#[derive(Parser)]
struct Worker {
    #[command(flatten)]
    args: WorkerArgs,
}

#[derive(Parser)]
struct Router {
    #[command(flatten)]
    args: RouterArgs,
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: TlsArgs,
}

/// Command lines of every process, one flag or value a line.
pub fn flags(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let line = || std::iter::once("estafette").chain(text.lines());
    if let Ok(Worker { args }) = Worker::try_parse_from(line()) {
        match args.check() {
            Ok(settings) => {
                let engine = settings.engine;
                assert!(engine.threads > 0 && engine.max_num_batched_tokens >= engine.max_num_seqs);
            }
            Err(problems) => assert!(!problems.0.is_empty() && !problems.to_string().is_empty()),
        }
    }
    if let Ok(Router { args }) = Router::try_parse_from(line())
        && let Ok(settings) = args.check()
    {
        assert!(settings.admission.max_concurrent_requests > 0);
    }
    if let Ok(Command { args }) = Command::try_parse_from(line()) {
        drop(args.files());
    }
}

#[cfg(test)]
mod tests;
