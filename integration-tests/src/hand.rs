//! A cluster whose processes are started one by one, so that each can be ended, stopped and replaced.

use crate::cluster::{free_addresses, run, send};
use crate::eventually;
use crate::http::Http;
use crate::process::Part;
use crate::stream::{Running, Whole};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Output;

/// A running router, and where it is.
#[derive(Debug)]
pub struct HandMade {
    /// The router.
    pub router: Part,
    /// Of its HTTP API.
    pub http: Http,
    /// host:port of its gRPC API.
    pub grpc_address: String,
    http_address: String,
    router_flags: Vec<String>,
    worker_flags: Vec<String>,
}

impl HandMade {
    /// Starts a router; every worker gets `worker_flags`.
    pub fn start(router_flags: &[&str], worker_flags: &[&str]) -> Self {
        let [http_address, grpc_address] = free_addresses();
        let owned = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
        let router_flags: Vec<String> = owned(router_flags);
        let router = start_router(&http_address, &grpc_address, &router_flags);
        let http = Http::new(&http_address);
        let hand_made = Self {
            router,
            http,
            grpc_address,
            http_address,
            router_flags,
            worker_flags: owned(worker_flags),
        };
        hand_made.wait_until_alive();
        hand_made
    }

    fn wait_until_alive(&self) {
        let lives = || self.http.try_get("/health/live").is_ok_and(|reply| reply.status == 200);
        assert!(eventually(lives), "the router does not start");
    }

    /// Kills the router and starts another one at the same place.
    pub fn replace_router(&mut self) {
        self.router.kill();
        self.router = start_router(&self.http_address, &self.grpc_address, &self.router_flags);
        self.wait_until_alive();
    }

    /// Starts a worker: `prefill` or `decode`, a dash, and anything.
    pub fn worker(&self, id: &str) -> Part {
        self.worker_with(id, &[])
    }

    /// The same with more flags.
    pub fn worker_with(&self, id: &str, flags: &[&str]) -> Part {
        let role = id.split('-').next().unwrap();
        let command = format!("{role}-worker");
        let own = [&*command, "--id", id, "--router", &self.grpc_address, "--threads", "1"];
        let usual = self.worker_flags.iter().map(String::as_str);
        let flags = own.into_iter().chain(usual).chain(flags.iter().copied());
        Part::start(&flags.collect::<Vec<_>>())
    }

    /// Starts workers and waits until all can be chosen, together with `there` that could before.
    pub fn workers<const N: usize>(&self, ids: [&str; N], there: u64) -> [Part; N] {
        let parts = ids.map(|id| self.worker(id));
        self.wait_for_workers(there + N as u64);
        parts
    }

    /// Waits until so many workers can be chosen.
    pub fn wait_for_workers(&self, count: u64) {
        let there = || self.metric("estafette_workers", &[]) == count;
        assert!(eventually(there), "there are not {count} workers in time");
    }

    /// Asks for a streamed chat answer.
    pub fn stream(&self, body: &Value) -> Running {
        Running::new(self.http.stream("/v1/chat/completions", body))
    }

    /// A streamed chat answer, read to its end.
    pub fn answer(&self, body: &Value) -> Whole {
        self.stream(body).whole()
    }

    /// Several at once.
    pub fn answers(&self, bodies: &[Value]) -> Vec<Whole> {
        std::thread::scope(|scope| {
            let asked: Vec<_> =
                bodies.iter().map(|body| scope.spawn(|| self.answer(body))).collect();
            asked.into_iter().map(|answer| answer.join().unwrap()).collect()
        })
    }

    /// The sum of a metric's values over the lines that contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        self.http
            .metrics()
            .sum(&format!("estafette_{}", name.trim_start_matches("estafette_")), labels)
    }

    /// Tokens of one kind that a worker has done.
    pub fn tokens(&self, worker: &str, kind: &str) -> u64 {
        let labels = [format!("\"{worker}\""), format!("\"{kind}\"")];
        self.metric("worker_tokens_total", &labels.each_ref().map(String::as_str))
    }

    /// Waits until nothing is in work and every block of every worker is free or cached.
    pub fn wait_until_idle(&self) {
        let idle = || {
            let metrics = self.http.metrics();
            let sum = |name: &str| metrics.sum(&format!("estafette_{name}"), &[]);
            let busy = ["requests_running", "requests_waiting", "worker_waiting_sequences"]
                .into_iter()
                .chain(["worker_running_prefill_tokens", "worker_decoding_sequences"])
                .any(|name| sum(name) > 0);
            !busy && sum("worker_free_blocks") == sum("worker_total_blocks")
        };
        assert!(eventually(idle), "it does not come to rest:\n{}", self.http.metrics().0);
    }

    /// Runs `estafette drain` for a worker to its end.
    pub fn drain(&self, worker: &str, grace: &str) -> Output {
        run(&["drain", worker, "--grace", grace, "--router", &self.grpc_address])
    }
}

fn start_router(http: &str, grpc: &str, flags: &[String]) -> Part {
    let own = ["router", "--http", http, "--grpc", grpc];
    Part::start(&own.into_iter().chain(flags.iter().map(String::as_str)).collect::<Vec<_>>())
}

impl Part {
    /// Stops it without ending it, as a debugger or a machine that hangs would.
    pub fn freeze(&self) {
        send(self.id(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        send(self.id(), Signal::CONT);
    }

    /// Waits for its end; the exit code, unless a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let mut ended = None;
        assert!(
            eventually(|| {
                ended = self.ended();
                ended.is_some()
            }),
            "it does not end"
        );
        ended.flatten()
    }
}
