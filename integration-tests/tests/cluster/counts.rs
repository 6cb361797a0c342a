//! Every token is counted once: over a mixed load with cancellations, the bills equal the workers' counters, and every
//! block is free or cached at the end.

use estafette_integration_tests::cluster::{Cluster, chat_body};
use estafette_integration_tests::eventually;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::thread;

const REQUESTS: usize = 200;
const CLIENTS: usize = 8;

/// What the clients were told.
#[derive(Debug, Default)]
struct Bills {
    prompt: u64,
    cached: u64,
    completion: u64,
    answered: usize,
    cancelled: usize,
}

impl Bills {
    fn add(&mut self, usage: &Value) {
        let count = |name: &str| usage[name].as_u64().unwrap();
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert!(cached < count("prompt_tokens"), "the last token is always computed");
        self.prompt += count("prompt_tokens");
        self.cached += cached;
        self.completion += count("completion_tokens");
        self.answered += 1;
    }
}

/// Some prompts share beginnings, some are long, some answers end early, some clients go away.
fn request(i: usize) -> Value {
    let shared =
        "You carry the baton for team ".to_owned() + ["red", "green", "blue"][i % 3] + ". ";
    let content = shared.repeat(1 + i % 17) + &format!("Runner {}.", i % 50);
    let mut extra = json!({ "max_tokens": 1 + i % 9, "temperature": (i % 2) as f64, "seed": i });
    if i.is_multiple_of(7) {
        extra["ignore_eos"] = true.into();
    }
    chat_body(&content, &extra)
}

fn send(cluster: &Cluster, i: usize, bills: &Mutex<Bills>) {
    let mut body = request(i);
    if i % 5 == 3 {
        body["stream"] = true.into();
        body["max_tokens"] = 200.into();
        body["ignore_eos"] = true.into();
        let mut events = cluster.http.stream("/v1/chat/completions", &body);
        for _ in 0..i % 4 {
            events.next_data();
        }
        drop(events);
        bills.lock().unwrap().cancelled += 1;
    } else {
        let reply = cluster.http.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        bills.lock().unwrap().add(&reply.json()["usage"]);
    }
}

#[test]
fn over_200_requests_with_cancellations_no_token_and_no_block_is_lost() {
    let cluster = Cluster::start(&["--max-num-batched-tokens", "128"]);
    let bills = Mutex::new(Bills::default());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (cluster, bills) = (&cluster, &bills);
            scope.spawn(move || {
                (client..REQUESTS).step_by(CLIENTS).for_each(|i| send(cluster, i, bills));
            });
        }
    });
    cluster.wait_until_idle();

    let bills = bills.into_inner().unwrap();
    assert_eq!(bills.answered + bills.cancelled, REQUESTS);
    let router = |kind: &str| cluster.metric("estafette_tokens_total", &[&format!("\"{kind}\"")]);
    let workers =
        |kind: &str| cluster.metric("estafette_worker_tokens_total", &[&format!("\"{kind}\"")]);
    let kinds = ["cached", "computed", "recomputed", "generated"];
    // The last words of cancelled legs may still be on their way to the router.
    // What does not become equal is shown by the checks.
    eventually(|| kinds.iter().all(|kind| router(kind) == workers(kind)));
    for kind in kinds {
        assert_eq!(router(kind), workers(kind), "{kind}: what was billed is what was done");
    }
    // The clients that stayed were told of no more than was done; the rest was for those that left.
    assert!(bills.cached <= router("cached") && bills.cached > 0);
    assert!(bills.prompt - bills.cached <= router("computed"));
    assert!(bills.completion <= router("generated"));

    let free = cluster.metric("estafette_worker_free_blocks", &[]);
    assert_eq!(
        free,
        cluster.metric("estafette_worker_total_blocks", &[]),
        "every block is free or cached"
    );
    assert_eq!(cluster.metric("estafette_requests_total", &["\"ok\""]), bills.answered as u64);
}

#[test]
fn without_cancellations_the_bills_are_the_counters() {
    let cluster = Cluster::start(&[]);
    let bills = Mutex::new(Bills::default());
    (0..20).filter(|i| i % 5 != 3).for_each(|i| send(&cluster, i, &bills));
    cluster.wait_until_idle();
    let bills = bills.into_inner().unwrap();
    let workers =
        |kind: &str| cluster.metric("estafette_worker_tokens_total", &[&format!("\"{kind}\"")]);
    assert_eq!(bills.cached, workers("cached"));
    assert_eq!(bills.prompt - bills.cached, workers("computed"));
    assert_eq!(bills.completion, workers("generated"));
    assert_eq!(workers("recomputed"), 0);
}
