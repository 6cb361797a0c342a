//! Processes that die: the cluster goes on with those that are left, and says so when none is.

use estafette_integration_tests::cluster::{Cluster, chat_body, send};
use estafette_integration_tests::eventually;
use estafette_integration_tests::process::Part;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_worker_that_stops_answering_its_router_is_not_chosen() {
    // Started by hand: `up` ends when one of its processes does.
    let cluster = Cluster::start(&["--prefill", "0"]);
    let worker = extra(&cluster, "decode-worker", "extra-0");
    wait(|| cluster.metric("estafette_workers", &["decode"]) == 2);
    send(worker.id(), Signal::KILL);
    wait(|| cluster.metric("estafette_workers", &["decode"]) == 1);
    for _ in 0..4 {
        cluster.chat("Still there?", &json!({ "max_tokens": 2 }));
    }
}

#[test]
fn a_prefill_worker_killed_in_the_middle_costs_no_request() {
    let cluster = Cluster::start(&["--prefill", "0"]);
    cluster.chat("Warm up.", &json!({ "max_tokens": 20, "ignore_eos": true }));
    let worker = extra(&cluster, "prefill-worker", "extra-1");
    wait(|| cluster.metric("estafette_workers", &["prefill"]) == 1);
    let running = std::thread::scope(|scope| {
        let running = scope.spawn(|| answers(&cluster));
        wait(|| cluster.metric("estafette_worker_steps_total", &["extra-1"]) > 2);
        send(worker.id(), Signal::KILL);
        running.join().unwrap()
    });
    assert!(
        cluster.metric("estafette_retries_total", &[]) > 0,
        "it was in the middle of something"
    );
    assert_eq!(running, answers(&cluster), "the same tokens as if nothing had happened");
    cluster.wait_until_idle();
    let free = cluster.metric("estafette_worker_free_blocks", &["decode"]);
    assert_eq!(free, cluster.metric("estafette_worker_total_blocks", &["decode"]));
}

#[test]
fn a_decode_worker_killed_in_the_middle_of_answers_costs_nothing_of_them() {
    let cluster = Cluster::start(&["--prefill", "0"]);
    let long = || -> Vec<String> {
        let ask = |i: usize| {
            let extra = json!({ "max_tokens": 120, "temperature": 0.7, "seed": i, "ignore_eos": true, "stream": true });
            let body = chat_body(&format!("Count from {i}."), &extra);
            let events = cluster.http.stream("/v1/chat/completions", &body).rest();
            assert_eq!(events.iter().filter(|e| !e["error"].is_null()).count(), 0, "{events:?}");
            let deltas = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
            deltas.collect::<String>()
        };
        std::thread::scope(|scope| {
            let sent: Vec<_> = (0..6).map(|i| scope.spawn(move || ask(i))).collect();
            sent.into_iter().map(|answer| answer.join().unwrap()).collect()
        })
    };
    let worker = extra(&cluster, "decode-worker", "extra-2");
    wait(|| cluster.metric("estafette_workers", &["decode"]) == 2);
    let disturbed = std::thread::scope(|scope| {
        let running = scope.spawn(long);
        wait(|| {
            let labels = ["extra-2", "generated"];
            cluster.metric("estafette_worker_tokens_total", &labels) > 20
        });
        send(worker.id(), Signal::KILL);
        running.join().unwrap()
    });
    assert!(cluster.metric("estafette_retries_total", &[]) > 0, "it was answering something");
    assert_eq!(disturbed, long(), "as if nothing had happened");
}

#[test]
fn of_two_workers_with_one_name_the_newer_one_stays_and_the_older_one_ends() {
    let cluster = Cluster::start(&["--prefill", "0"]);
    let mut old = extra(&cluster, "decode-worker", "twin");
    wait(|| cluster.metric("estafette_workers", &["decode"]) == 2);
    let mut new = extra(&cluster, "decode-worker", "twin");
    let mut ended = None;
    wait(|| {
        ended = old.ended();
        ended.is_some()
    });
    assert_eq!(ended.unwrap(), Some(1));
    wait(|| cluster.metric("estafette_workers", &["decode"]) == 2);
    assert!(new.ended().is_none());
}

/// Texts of six long prompts at once, never cached.
fn answers(cluster: &Cluster) -> Vec<String> {
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..6)
            .map(|i| {
                scope.spawn(move || {
                    let story =
                        format!("Lap {i}. ") + &"The runner leans into the bend. ".repeat(45);
                    let extra = json!({ "max_tokens": 6, "temperature": 0 });
                    let reply =
                        cluster.http.post("/v1/chat/completions", &chat_body(&story, &extra));
                    assert_eq!(reply.status, 200, "{}", reply.text);
                    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
                })
            })
            .collect();
        sent.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

fn wait(until: impl FnMut() -> bool) {
    assert!(eventually(until), "it does not happen");
}

/// A worker that `up` knows nothing of.
fn extra(cluster: &Cluster, command: &str, id: &str) -> Part {
    let router = &*cluster.grpc_address;
    Part::start(&[
        command,
        "--id",
        id,
        "--router",
        router,
        "--threads",
        "1",
        "--max-num-batched-tokens",
        "64",
    ])
}
