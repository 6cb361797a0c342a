//! Processes that come late, die or are told to stop.

use super::{completion, mock, stream};
use estafette_integration_tests::cluster::{free_addresses, send};
use estafette_integration_tests::eventually;
use estafette_integration_tests::http::Http;
use estafette_integration_tests::process::Part;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

struct Router {
    part: Part,
    http: Http,
}

fn router([http, grpc]: &[String; 2]) -> Router {
    let part = Part::start(&["router", "--http", http, "--grpc", grpc]);
    let client = Http::new(http);
    let lives = || client.try_get("/health/live").is_ok_and(|reply| reply.status == 200);
    assert!(eventually(lives), "the router does not start");
    Router { part, http: client }
}

fn worker(command: &str, grpc: &str) -> Part {
    let mock = ["--backend", "mock", "--mock-step", "15ms", "--threads", "1"];
    Part::start(&[&[command, "--router", grpc], &mock[..]].concat())
}

/// What the server says to one who asks whether it should send a large body.
fn asked_to_send(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[test]
fn pools_that_are_empty_at_the_start_are_usable_when_workers_join() {
    let addresses = free_addresses();
    let router = router(&addresses);
    let body = serde_json::json!({ "prompt": "Hi", "max_tokens": 2 });
    let reply = router.http.post("/v1/completions", &body);
    assert_eq!((reply.status, reply.error().1.as_str()), (503, "no_worker_available"));
    assert_eq!(asked_to_send(&addresses[0]), "HTTP/1.1 503", "nothing is read for nothing");
    let there = |role: &str| router.http.metrics().sum("estafette_workers", &[role]) == 1;
    let _decode = worker("decode-worker", &addresses[1]);
    assert!(eventually(|| there("decode")));
    assert_eq!(router.http.post("/v1/completions", &body).status, 200);
    let _prefill = worker("prefill-worker", &addresses[1]);
    assert!(eventually(|| there("prefill")));
    assert_eq!(router.http.post("/v1/completions", &body).status, 200);
    let routes = |kind: &str| router.http.metrics().sum("estafette_routes_total", &[kind]);
    assert_eq!((routes("\"aggregated\""), routes("\"disaggregated\"")), (1, 1));
}

#[test]
fn a_router_that_is_full_refuses_before_it_reads() {
    let cluster = mock("15ms", &["--prefill", "0", "--max-concurrent-requests", "1"]);
    assert_eq!(asked_to_send(&cluster.http_address), "HTTP/1.1 100");
    let mut running = stream(&cluster, &completion(0, 20, 1_500));
    running.next_data();
    assert_eq!(asked_to_send(&cluster.http_address), "HTTP/1.1 429");
    let reply = cluster.http.post_bytes("/v1/chat/completions", b"no JSON");
    assert_eq!((reply.status, reply.error().1.as_str()), (429, "overloaded"));
    assert_eq!(reply.retry_after.as_deref(), Some("1"));
    assert_eq!(cluster.metric("estafette_requests_total", &["\"overloaded\""]), 2);
    assert_eq!(cluster.metric("estafette_retries_total", &[]), 0, "nobody sends it again for them");
}

/// Elsewhere a dead front end held its admissions until a janitor came.
#[test]
fn a_router_that_is_killed_leaves_nothing_in_its_workers() {
    let addresses = free_addresses();
    let mut first = router(&addresses);
    let _decode = worker("decode-worker", &addresses[1]);
    let there = |http: &Http| {
        eventually(|| http.try_get("/metrics").is_ok())
            && eventually(|| http.metrics().sum("estafette_workers", &["decode"]) == 1)
    };
    assert!(there(&first.http));
    let mut running = first.http.stream("/v1/completions", &completion(0, 100, 1_500));
    running.next_data();
    let busy = |http: &Http| http.metrics().sum("estafette_worker_decoding_sequences", &[]);
    assert!(eventually(|| busy(&first.http) == 1));
    first.part.kill();
    let second = router(&addresses);
    assert!(there(&second.http), "the worker comes to the new router");
    assert!(eventually(|| busy(&second.http) == 0));
    let blocks =
        |kind: &str| second.http.metrics().sum(&format!("estafette_worker_{kind}_blocks"), &[]);
    assert!(eventually(|| blocks("free") == blocks("total")));
    let generated = second.http.metrics().sum("estafette_worker_tokens_total", &["\"generated\""]);
    assert!(generated < 1_500, "it did not just finish");
}

/// Elsewhere every scale-down of a front end cut its long streams off.
#[test]
fn a_router_that_is_told_to_stop_ends_its_streams_first() {
    let addresses = free_addresses();
    let mut router = router(&addresses);
    let _decode = worker("decode-worker", &addresses[1]);
    let workers = || router.http.metrics().sum("estafette_workers", &["decode"]);
    assert!(eventually(|| workers() == 1));
    let mut running = router.http.stream("/v1/completions", &completion(0, 100, 60));
    running.next_data();
    send(router.part.id(), Signal::TERM);
    let rest = running.rest();
    assert!(rest.iter().all(|event| event["error"].is_null()), "{rest:?}");
    // One was read before, and one says that it has ended.
    assert!(rest.len() >= 59, "{}", rest.len());
    let mut code = None;
    assert!(eventually(|| {
        code = router.part.ended();
        code.is_some()
    }));
    assert_eq!(code, Some(Some(0)));
}
