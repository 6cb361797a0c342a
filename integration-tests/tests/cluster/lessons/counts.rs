//! Counts that are right at every moment, and come back to nothing.

use super::{completion, mock, stream};
use estafette_integration_tests::cluster::Cluster;
use estafette_integration_tests::eventually;
use estafette_integration_tests::http::Metrics;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;

/// An autoscaler elsewhere read counts that the router had discounted, and saw a fifth of the load. At every moment:
/// what waits, what is being computed and what was computed is what was asked for; and each sequence that decodes holds its
/// whole prompt and its answer but for the last token.
#[test]
fn counts_for_an_autoscaler_equal_the_request_log_at_every_moment() {
    const REQUESTS: u32 = 8;
    const PROMPT: u64 = 200;
    let args = ["--prefill", "0", "--max-num-seqs", "4", "--max-num-batched-tokens", "64"];
    let cluster = mock("15ms", &args);
    let asked = u64::from(REQUESTS) * PROMPT;
    let sum = |metrics: &Metrics, name: &str, labels: &[&str]| {
        metrics.sum(&format!("estafette_worker_{name}"), labels)
    };
    let prompts = |metrics: &Metrics| {
        sum(metrics, "waiting_prefill_tokens", &[])
            + sum(metrics, "running_prefill_tokens", &[])
            + sum(metrics, "tokens_total", &["\"computed\""])
            + sum(metrics, "tokens_total", &["\"cached\""])
    };
    let clients: Vec<_> =
        (0..REQUESTS).map(|i| send(&cluster, &completion(i, PROMPT as u32, 1_500))).collect();
    assert!(eventually(|| prompts(&cluster.http.metrics()) == asked), "all have arrived");
    let mut settled = 0;
    assert!(eventually(|| {
        let metrics = cluster.http.metrics();
        assert_eq!(prompts(&metrics), asked, "{}", metrics.0);
        let decoding = sum(&metrics, "decoding_sequences", &[]);
        let generated = sum(&metrics, "tokens_total", &["\"generated\""]);
        let resident = decoding * (PROMPT - 1) + generated;
        assert_eq!(sum(&metrics, "decoding_tokens", &[]), resident, "{}", metrics.0);
        settled += u32::from(decoding == 4);
        settled > 20
    }));
    drop(clients);
    cluster.wait_until_idle();
}

/// Of every kind of count that a request can be in when its client goes away, nothing is left.
#[test]
fn a_request_that_is_cancelled_at_any_moment_leaves_no_count_behind() {
    let args = ["--max-num-seqs", "1", "--max-waiting", "1", "--max-num-batched-tokens", "16"];
    for pools in [["--prefill", "0"], ["--prefill", "1"]] {
        let cluster = mock("15ms", &[&pools[..], &args].concat());
        let gauge = |name: &str| cluster.metric(&format!("estafette_{name}"), &[]);
        let moments: [(&str, &dyn Fn() -> bool); 4] = [
            ("while its prompt is computed", &|| gauge("worker_running_prefill_tokens") > 0),
            ("while it waits at the worker", &|| gauge("worker_waiting_sequences") > 0),
            ("while it waits in the router", &|| gauge("requests_waiting") > 0),
            ("while it decodes", &|| gauge("worker_decoding_sequences") > 0),
        ];
        for (number, (when, there)) in (0..).zip(moments) {
            let mut clients = Vec::new();
            let reached = eventually(|| {
                if clients.len() < 6 {
                    let number = 10 * number + clients.len() as u32;
                    clients.push(send(&cluster, &completion(number, 400, 1_000)));
                }
                there()
            });
            assert!(reached, "{when}");
            drop(clients);
            cluster.wait_until_idle();
            let left = ["requests_running", "requests_waiting", "worker_waiting_sequences"]
                .into_iter()
                .chain(["worker_waiting_prefill_tokens", "worker_running_prefill_tokens"])
                .chain(["worker_decoding_sequences", "worker_decoding_tokens"]);
            // The legs that were on their way when the client went are in and out of a worker's record a little later.
            let left: Vec<_> = left.collect();
            let nothing = eventually(|| left.iter().all(|name| gauge(name) == 0));
            assert!(nothing, "cancelled {when}");
            let free = || gauge("worker_free_blocks") == gauge("worker_total_blocks");
            assert!(eventually(free), "cancelled {when}");
        }
    }
}

/// A client that does not wait for anything.
fn send(cluster: &Cluster, body: &Value) -> TcpStream {
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    let mut stream = TcpStream::connect(&cluster.http_address).unwrap();
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

/// Many at once, none of which shares anything, on equal workers. A machine that is busy with other things makes workers
/// unequal, which the router learns: then another burst has to show it.
#[test]
fn a_burst_through_a_real_router_is_spread_over_all_workers() {
    let cluster = mock("5ms", &["--prefill", "0", "--decode", "4"]);
    let generated = || {
        [0, 1, 2, 3].map(|worker| {
            let labels = [&*format!("decode-{worker}"), "\"generated\""];
            cluster.metric("estafette_worker_tokens_total", &labels)
        })
    };
    let mut seen = Vec::new();
    let spread = (0..4).any(|burst| {
        let before = generated();
        std::thread::scope(|scope| {
            for i in 0..80 {
                let cluster = &cluster;
                scope.spawn(move || stream(cluster, &completion(80 * burst + i, 100, 10)).rest());
            }
        });
        cluster.wait_until_idle();
        let after = generated();
        let shares = [0, 1, 2, 3].map(|worker| after[worker] - before[worker]);
        assert_eq!(shares.iter().sum::<u64>(), 800);
        seen.push(shares);
        shares.iter().all(|share| (100..400).contains(share))
    });
    assert!(spread, "{seen:?}");
}
