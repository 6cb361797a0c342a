//! `estafette drain`: lets a worker leave in order.

use crate::access::Access;
use crate::process::{SOCKET_THREADS, runtime};
use anyhow::Result;
use clap::Args;
use estafette_proto::v1::{self, operations_client::OperationsClient};
use estafette_types::parse_duration;
use std::time::Duration;

/// The router answers so long after the end of the grace at the latest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Flags of `estafette drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The worker's name.
    worker: String,
    /// How long running answers may take to finish; those that still run then go on elsewhere.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    grace: Duration,
    #[command(flatten)]
    access: Access,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn run(args: DrainArgs) -> Result<()> {
    let worker = args.worker.clone();
    let reply = runtime(SOCKET_THREADS)?.block_on(drain(args))?;
    println!("{worker} has left, {:.1} s after it was told to", reply.took_ms as f64 / 1e3);
    Ok(())
}

async fn drain(args: DrainArgs) -> Result<v1::DrainWorkerReply> {
    let DrainArgs { worker, grace, access } = args;
    let channel = access.connect(grace.saturating_add(ANSWER_TIMEOUT)).await?;
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let request = access.request(v1::DrainWorkerRequest { worker_id: worker, grace_ms })?;
    let reply = OperationsClient::new(channel).drain_worker(request).await;
    reply.map(tonic::Response::into_inner).map_err(|status| access.refusal(&status))
}
