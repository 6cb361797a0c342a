//! `estafette route explain`: why a running router would send a prompt where it would send it.

use crate::access::Access;
use crate::process::{SOCKET_THREADS, runtime};
use anyhow::Result;
use clap::{Args, Subcommand};
use estafette_proto::v1::routing_client::RoutingClient;
use estafette_proto::v1::{self, RoutePart, generate_request::Prompt};
use std::time::Duration;

/// The router answers at once, or not at all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Questions to a router about its choices.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Show every term of every worker's score for a prompt, without sending it.
    Explain(ExplainArgs),
}

/// Flags of `estafette route explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The prompt's text.
    prompt: String,
    /// The longest answer that is asked for; as long as fits when left out.
    #[arg(long)]
    max_tokens: Option<u32>,
    /// The session that the request belongs to.
    #[arg(long, default_value = "")]
    session: String,
    #[command(flatten)]
    access: Access,
}

pub(crate) fn run(command: RouteCommand) -> Result<()> {
    let RouteCommand::Explain(args) = command;
    let explanation = runtime(SOCKET_THREADS)?.block_on(ask(args))?;
    print(&explanation);
    Ok(())
}

async fn ask(args: ExplainArgs) -> Result<v1::RouteExplanation> {
    let channel = args.access.connect(TIMEOUT).await?;
    let request = v1::GenerateRequest {
        prompt: Some(Prompt::Text(args.prompt)),
        max_tokens: args.max_tokens,
        session: args.session,
        ..v1::GenerateRequest::default()
    };
    let answer = RoutingClient::new(channel).explain(args.access.request(request)?).await;
    answer.map(tonic::Response::into_inner).map_err(|status| args.access.refusal(&status))
}

#[expect(clippy::print_stdout, reason = "the table is the command's result")]
fn print(explanation: &v1::RouteExplanation) {
    println!("{}", verdict(explanation));
    println!("\nScores in milliseconds, lower is better:");
    for line in table(&explanation.candidates) {
        println!("{line}");
    }
    println!(
        "\nothers = prefill x pressure, {:.2} in the prefill pool and {:.2} in the decode pool",
        explanation.prefill_pressure, explanation.decode_pressure
    );
}

fn verdict(explanation: &v1::RouteExplanation) -> String {
    let v1::RouteExplanation { prompt_tokens, prefill, decode, reason, fate, waiting, .. } =
        explanation;
    let why = match reason.as_str() {
        "prefill_pool" => "the prefill pool is the better place for the prompt, or as good",
        "no_prefill_worker" => "no prefill worker can take it",
        "cached" => "the decode worker holds most of the prompt",
        "deflected" => "prefilling on the decode worker is enough faster",
        "saturated" => "every worker's queue is full",
        "no_worker" => "no decode worker is ready",
        other => other,
    };
    let workers = if prefill.is_empty() {
        format!("{decode} alone")
    } else {
        format!("{prefill}, then {decode}")
    };
    match fate.as_str() {
        "refused" if reason != "no_worker" => format!(
            "{prompt_tokens} tokens are refused: {waiting} requests wait in the router already, and no more may"
        ),
        "refused" => format!("{prompt_tokens} tokens are refused: {why}"),
        "waits" if decode.is_empty() => {
            format!("{prompt_tokens} tokens wait in the router with {waiting} others: {why}")
        }
        "waits" => format!(
            "{prompt_tokens} tokens wait in the router until {waiting} others are sent; now they would go to {workers}: \
             {why}"
        ),
        _ => format!("{prompt_tokens} tokens go to {workers}: {why}"),
    }
}

const COLUMNS: [&str; 11] = [
    "worker",
    "as",
    "uncached",
    "queue",
    "seat",
    "prefill",
    "hand-off",
    "decode",
    "interfer.",
    "others",
    "score",
];

/// Lines of a table, the best candidate of each part first.
fn table(candidates: &[v1::RouteCandidate]) -> Vec<String> {
    let mut sorted: Vec<_> = candidates.iter().collect();
    sorted.sort_by(|a, b| a.part.cmp(&b.part).then(score(a).total_cmp(&score(b))));
    let rows = sorted.iter().map(|candidate| row(candidate));
    let rows: Vec<Vec<String>> =
        std::iter::once(COLUMNS.map(str::to_owned).to_vec()).chain(rows).collect();
    let width = |i: usize| {
        rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
            if i < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(candidate: &v1::RouteCandidate) -> Vec<String> {
    let part = match candidate.part() {
        RoutePart::Prefill => "prefill",
        RoutePart::Decode => "decode",
        RoutePart::Aggregated => "alone",
        RoutePart::Unspecified => "?",
    };
    let mut cells =
        vec![candidate.worker.clone(), part.to_owned(), candidate.uncached_tokens.to_string()];
    match &candidate.terms {
        None => cells.push(candidate.filtered.replace('_', " ")),
        Some(t) => {
            let terms =
                [t.queue, t.seat, t.prefill, t.hand_off, t.decode, t.interference, t.others];
            cells.extend(terms.map(|seconds| format!("{:.1}", seconds * 1e3)));
            cells.push(format!("{:.1}", score(candidate) * 1e3));
        }
    }
    cells
}

/// In seconds; infinite for those that cannot take the request.
fn score(candidate: &v1::RouteCandidate) -> f64 {
    candidate.terms.as_ref().map_or(f64::INFINITY, |terms| terms.total)
}

#[cfg(test)]
mod tests;
