//! What went wrong in production elsewhere, as far as it takes real processes: mock workers, so that they are cheap.
//! `docs/lessons.md` lists all lessons, with whose they are and where each is tested.

mod counts;
mod processes;
mod sockets;

use estafette_integration_tests::cluster::Cluster;
use estafette_integration_tests::http::Events;
use serde_json::{Value, json};

/// A cluster of workers that compute nothing, each step in `step`.
fn mock(step: &str, args: &[&str]) -> Cluster {
    Cluster::start(&[&["--backend", "mock", "--mock-step", step], args].concat())
}

/// A request whose prompt of `tokens` tokens shares nothing with that of another number.
fn completion(number: u32, tokens: u32, max_tokens: u32) -> Value {
    let prompt: Vec<u32> = (0..tokens).map(|i| 1_000 + 97 * number + i).collect();
    json!({ "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": true, "stream": true })
}

fn stream(cluster: &Cluster, body: &Value) -> Events {
    cluster.http.stream("/v1/completions", body)
}
