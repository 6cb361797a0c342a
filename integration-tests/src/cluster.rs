//! A whole cluster of real processes: `estafette up`, as a person starts it.

use crate::eventually;
use crate::http::Http;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// The program, which `cargo xtask test` builds before the tests run.
pub fn program() -> PathBuf {
    // target/PROFILE/deps/TEST
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("estafette");
    assert!(program.is_file(), "{} is missing: cargo build -p estafette-cli", program.display());
    program
}

/// Two addresses that were free a moment ago.
pub fn free_addresses() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    Command::new(program()).args(args).stdin(Stdio::null()).output().unwrap()
}

/// A running `estafette up`. Killed when dropped; its children notice.
#[derive(Debug)]
pub struct Cluster {
    process: Child,
    /// Of the HTTP API.
    pub http: Http,
    /// host:port of the HTTP API.
    pub http_address: String,
    /// host:port of the gRPC API.
    pub grpc_address: String,
}

impl Cluster {
    /// Starts `estafette up` with `args` and waits until every worker is there.
    pub fn start(args: &[&str]) -> Self {
        let [http_address, grpc_address] = free_addresses();
        let process = Command::new(program())
            .arg("up")
            .args(["--http", &http_address, "--grpc", &grpc_address, "--threads", "1"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let http = Http::new(&http_address);
        let mut cluster = Self { process, http, http_address, grpc_address };
        let count = |flag: &str| {
            let at = args.iter().position(|arg| *arg == flag);
            at.map_or(1, |i| args[i + 1].parse().unwrap())
        };
        cluster.wait_for_workers(count("--prefill"), count("--decode"));
        cluster
    }

    fn wait_for_workers(&mut self, prefill: u64, decode: u64) {
        let ready = eventually(|| {
            assert!(self.process.try_wait().unwrap().is_none(), "the cluster ended");
            let counts = self.http.try_get("/health/ready").map(|r| r.json()["workers"].clone());
            counts.is_ok_and(|there| there["prefill"] == prefill && there["decode"] == decode)
        });
        assert!(ready, "not ready in time");
    }

    /// The sum of a metric's values over the lines that contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        self.http.metrics().sum(name, labels)
    }

    /// Waits until the workers have nothing to do.
    pub fn wait_until_idle(&self) {
        let busy = || {
            ["waiting_sequences", "running_prefill_tokens", "decoding_sequences"]
                .map(|name| self.metric(&format!("estafette_worker_{name}"), &[]))
                .iter()
                .sum::<u64>()
                + self.metric("estafette_requests_running", &[])
        };
        assert!(eventually(|| busy() == 0), "the workers do not come to rest");
    }

    /// A chat answer to one message, with `extra` fields.
    pub fn chat(&self, content: &str, extra: &Value) -> Value {
        let reply = self.http.post("/v1/chat/completions", &chat_body(content, extra));
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }

    /// The process ids of the cluster's parts whose command line contains `what`.
    pub fn pids(&self, what: &str) -> Vec<u32> {
        let output = Command::new("ps")
            .args(["-o", "pid=,args=", "--ppid"])
            .arg(self.process.id().to_string())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| line.contains(what))
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect()
    }

    /// Sends `signal` to the process that was started, as Ctrl-C does.
    pub fn signal(&self, signal: Signal) {
        send(self.process.id(), signal);
    }

    /// Waits for the end; the exit code.
    pub fn wait(mut self) -> Option<i32> {
        let mut status = None;
        let ended = eventually(|| {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end");
        status.and_then(|status| status.code())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
            if !eventually(|| self.process.try_wait().is_ok_and(|ended| ended.is_some())) {
                let _ = self.process.kill();
            }
        }
    }
}

/// Sends `signal` to the process `pid`.
pub fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A chat request with one message.
pub fn chat_body(content: &str, extra: &Value) -> Value {
    let mut body = serde_json::json!({ "messages": [{ "role": "user", "content": content }] });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}
