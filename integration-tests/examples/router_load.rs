//! Load on a running router, to measure what it costs: streamed completions in a closed loop over some connections, as bare as
//! can be, so that this side takes little of the machine. One JSON line of figures.
//!
//! `router_load 127.0.0.1:8000 CONNECTIONS REQUESTS PROMPT_WORDS TOKENS`, loopback only.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a tool for measurements"
)]

use estafette_integration_tests::story::story;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What ends the body of a chunked answer.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Of one answer.
struct Times {
    first: Duration,
    whole: Duration,
    /// The longest between two reads after the first token.
    gap: Duration,
    tokens: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let address: SocketAddr = args[0].parse().unwrap();
    assert!(address.ip().is_loopback(), "only a router of this machine");
    let numbers: Vec<usize> = args[1..].iter().map(|arg| arg.parse().unwrap()).collect();
    let [connections, requests, words, tokens] = numbers[..] else { panic!("four numbers") };
    let left = Arc::new(AtomicUsize::new(requests));
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(address, left.clone(), words, tokens)))
        .collect();
    let mut times = Vec::with_capacity(requests);
    for client in clients {
        times.extend(client.await.unwrap());
    }
    assert_eq!(times.len(), requests);
    assert!(times.iter().all(|t| t.tokens == tokens), "every answer has all its tokens");
    let milliseconds = |of: fn(&Times) -> Duration, percent: usize| {
        let mut all: Vec<_> = times.iter().map(of).collect();
        all.sort_unstable();
        all[(all.len() - 1) * percent / 100].as_secs_f64() * 1e3
    };
    println!(
        "{{\"connections\": {connections}, \"requests\": {requests}, \"first_p50_ms\": {:.3}, \"first_p99_ms\": {:.3}, \
         \"whole_p50_ms\": {:.3}, \"whole_p99_ms\": {:.3}, \"gap_p50_ms\": {:.3}, \"gap_p99_ms\": {:.3}}}",
        milliseconds(|t| t.first, 50),
        milliseconds(|t| t.first, 99),
        milliseconds(|t| t.whole, 50),
        milliseconds(|t| t.whole, 99),
        milliseconds(|t| t.gap, 50),
        milliseconds(|t| t.gap, 99),
    );
}

async fn client(
    address: SocketAddr,
    left: Arc<AtomicUsize>,
    words: usize,
    tokens: usize,
) -> Vec<Times> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    loop {
        let number = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let Ok(number) = number else { return times };
        let request = request(number, words, tokens);
        let answer = tokio::time::timeout(PATIENCE, answer(&mut stream, &request));
        times.push(answer.await.unwrap());
    }
}

/// No two have a common beginning, so nothing is cached.
fn request(number: usize, words: usize, tokens: usize) -> Vec<u8> {
    let body = serde_json::json!({
        "prompt": story(number as u64, words),
        "max_tokens": tokens,
        "ignore_eos": true,
        "stream": true,
    });
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    (head + &body).into_bytes()
}

async fn answer(stream: &mut TcpStream, request: &[u8]) -> Times {
    let began = Instant::now();
    stream.write_all(request).await.unwrap();
    let (mut seen, mut first, mut last) = (Vec::with_capacity(16 << 10), None, began);
    let mut gap = Duration::ZERO;
    while !seen.ends_with(LAST_CHUNK) {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "the router closed the connection");
        let now = Instant::now();
        if first.is_some() {
            gap = gap.max(now - last);
        } else if find(&seen, b"data: ").next().is_some() {
            first = Some(now - began);
        }
        last = now;
    }
    // The last two events are the reason and the end.
    let tokens = find(&seen, b"data: ").count() - 2;
    Times { first: first.unwrap(), whole: last - began, gap, tokens }
}

fn find<'a>(text: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    text.windows(word.len()).enumerate().filter(move |(_, window)| *window == word).map(|(i, _)| i)
}
