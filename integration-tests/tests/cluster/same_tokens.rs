//! Same request, same tokens: aggregated, disaggregated, over each transport, in any chunk size, alone or in a batch,
//! from a cached prefix or not.

use estafette_integration_tests::cluster::Cluster;
use serde_json::{Value, json};
use std::thread;

/// Prompts of many lengths around the borders of blocks and chunks, greedy and sampled: 16 requests.
fn requests() -> Vec<Value> {
    let text = "On the track four runners wait, each for the one before. The first starts, and nobody knows yet who will \
                drop the baton. A crowd counts the laps: one, two, three. ";
    [3, 15, 16, 17, 40, 150, 333, 600]
        .into_iter()
        .enumerate()
        .flat_map(|(i, letters)| {
            let prompt: String = text.chars().cycle().skip(7 * i).take(letters).collect();
            [0.0, 0.9].map(|temperature| {
                json!({
                    "prompt": prompt, "temperature": temperature, "seed": 11 + i, "max_tokens": 12,
                    "logprobs": 3, "ignore_eos": true, "top_p": 0.95, "presence_penalty": 0.3,
                })
            })
        })
        .collect()
}

fn answer(cluster: &Cluster, body: &Value) -> Value {
    let reply = cluster.http.post("/v1/completions", body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = reply.json();
    assert_eq!(reply["usage"]["completion_tokens"], 12);
    reply["choices"].clone()
}

fn alone(cluster: &Cluster) -> Vec<Value> {
    requests().iter().map(|body| answer(cluster, body)).collect()
}

fn together(cluster: &Cluster) -> Vec<Value> {
    thread::scope(|scope| {
        let running: Vec<_> = requests()
            .into_iter()
            .map(|body| scope.spawn(move || answer(cluster, &body)))
            .collect();
        running.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

#[test]
fn however_a_request_is_served_its_tokens_and_logprobs_are_the_same_bits() {
    let expected = {
        let cluster = Cluster::start(&["--prefill", "0"]);
        let cold = alone(&cluster);
        assert_eq!(alone(&cluster), cold, "aggregated, from the prefix cache");
        assert_eq!(together(&cluster), cold, "aggregated, sixteen at once");
        cold
    };
    for (name, args) in [
        ("shared memory", &["--transport", "shm"][..]),
        ("tcp, chunks of 64", &["--transport", "tcp", "--max-num-batched-tokens", "64"]),
        (
            "chunks of 16, groups of 7 layers",
            &["--max-num-batched-tokens", "16", "--max-num-seqs", "16", "--layers-per-group", "7"],
        ),
        ("two and two", &["--prefill", "2", "--decode", "2"]),
        ("a pool that forces preemption", &["--prefill", "0", "--kv-memory", "7MiB"]),
    ] {
        let cluster = Cluster::start(args);
        assert_eq!(together(&cluster), expected, "{name}, sixteen at once");
        assert_eq!(alone(&cluster), expected, "{name}, one by one, prefixes cached");
        let handed_over = cluster.metric("estafette_routes_total", &["disaggregated"]);
        let recomputed = || cluster.metric("estafette_worker_tokens_total", &["recomputed"]);
        if name.contains("preemption") {
            // Whether two answers meet in the small pool is a matter of time; often enough, they do.
            let meet = |_| {
                assert_eq!(together(&cluster), expected, "{name}, again");
                recomputed() > 0
            };
            assert!(recomputed() > 0 || (0..20).any(meet), "{name}: it did not happen");
        } else {
            assert!(handed_over > 0, "{name}: it did not happen");
        }
    }
}
