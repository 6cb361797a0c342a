//! Waits for a cluster to be ready, and shows that it is coming.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What the router says once it can serve.
#[derive(Debug)]
pub(super) struct Ready {
    /// The name clients ask for.
    pub(super) model: String,
}

/// A bar that fills as workers join; plain lines when nobody watches.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn start(workers: usize) -> Self {
        let bar = ProgressBar::new(workers as u64);
        if let Ok(style) = ProgressStyle::with_template(
            "{spinner} loading the model: {pos} of {len} workers ready [{elapsed}]",
        ) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(POLL_INTERVAL);
        Self(bar)
    }

    fn joined(&self, count: u64) {
        self.0.set_position(count);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Returns when the router at `http` has `prefill` and `decode` workers.
pub(super) async fn wait(
    http: SocketAddr,
    prefill: usize,
    decode: usize,
    progress: &Progress,
) -> Ready {
    loop {
        if let Some(health) = get(http, "/health/ready").await {
            let count = |role: &str| health["workers"][role].as_u64().unwrap_or(0);
            progress.joined(count("prefill") + count("decode"));
            if count("prefill") >= prefill as u64 && count("decode") >= decode as u64 {
                let model = health["model"].as_str().unwrap_or("default").to_owned();
                return Ready { model };
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The JSON at `path`, whatever the status; `None` when there is no server or no JSON yet.
async fn get(http: SocketAddr, path: &str) -> Option<Value> {
    tokio::time::timeout(REQUEST_TIMEOUT, async {
        let mut stream = TcpStream::connect(http).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {http}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
        let text = String::from_utf8(answer).ok()?;
        let (_, body) = text.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    })
    .await
    .ok()
    .flatten()
}
