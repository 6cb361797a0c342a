use super::*;
use axum::body::Bytes;
use axum::routing::{get, post};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
/// What a whole request looks like.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let slow = async |body: Bytes| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        format!("{} bytes", body.len())
    };
    let routes = Router::new().route("/", get(async || "hello")).route("/slow", post(slow));
    let served = tokio::spawn(serve(routes, listener, None, limits, stopped));
    Running { address, stop, served }
}

fn quick() -> Limits {
    Limits { head: Duration::from_millis(150), idle: Duration::from_secs(2), ..Limits::default() }
}

/// Whether the server has closed the connection within `limit`; what it said before.
async fn closed_within(stream: &mut TcpStream, limit: Duration) -> Option<String> {
    let mut text = Vec::new();
    // It may end or break.
    timeout(limit, stream.read_to_end(&mut text)).await.ok()?.ok();
    Some(String::from_utf8(text).unwrap())
}

/// The next answer, up to its body's end, which is known.
async fn answer(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut some = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut some)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&some[..read]).unwrap());
    }
    text
}

/// Elsewhere Nagle's algorithm cost each stream 40 ms.
#[tokio::test]
async fn accepted_sockets_send_each_token_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let places = Arc::new(Semaphore::new(1));
    let (_client, accepted) = tokio::join!(TcpStream::connect(address), accept(&listener, &places));
    assert!(accepted.unwrap().0.nodelay().unwrap());
}

#[tokio::test]
async fn half_a_head_is_given_up_within_its_time() {
    let server = start(quick()).await;
    for bytes in [&b"G"[..], b"GET / HT", b"GET / HTTP/1.1\r\nhost:"] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let began = Instant::now();
        assert!(closed_within(&mut client, PATIENCE).await.is_some());
        assert!(began.elapsed() < Duration::from_secs(2), "before the idle limit: {bytes:?}");
    }
}

#[tokio::test]
async fn a_byte_every_now_and_then_does_not_put_it_off() {
    let server = start(quick()).await;
    let client = TcpStream::connect(server.address).await.unwrap();
    let (mut read, mut write) = client.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let began = Instant::now();
    drop(timeout(PATIENCE, read.read(&mut [0; 1])).await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(2));
    timeout(PATIENCE, trickle).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_and_long_work_have_more_time() {
    let server = start(quick()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        client.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut client, "hello").await.starts_with("HTTP/1.1 200 OK"));
    }
    // A body that comes in pieces, and an answer that takes longer than a head may.
    client
        .write_all(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.write_all(b"cd").await.unwrap();
    answer(&mut client, "4 bytes").await;
    let began = Instant::now();
    assert!(closed_within(&mut client, PATIENCE).await.is_some(), "idle for too long");
    assert!(began.elapsed() > Duration::from_secs(1), "longer than a head may take");
}

#[tokio::test]
async fn large_and_many_headers_are_refused() {
    let server = start(quick()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "b".repeat(80 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(120));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(80 << 10));
    for (request, statuses) in [(large, &["431"][..]), (many, &["431"]), (long, &["414", "431"])] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        // The server may close before all of it is sent.
        drop(client.write_all(request.as_bytes()).await);
        let text = closed_within(&mut client, PATIENCE).await.unwrap();
        let status = text.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{text}");
    }
}

#[tokio::test]
async fn connections_at_once_are_bounded() {
    let server = start(Limits { connections: 1, ..quick() }).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(REQUEST).await.unwrap();
    answer(&mut first, "hello").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    let waits = timeout(Duration::from_millis(200), second.read(&mut [0; 1])).await;
    assert!(waits.is_err(), "it waits for a place");
    drop(first);
    answer(&mut second, "hello").await;
}

#[tokio::test]
async fn a_stop_is_not_held_up_by_silent_clients_and_answers_what_runs() {
    let limits = Limits { idle: PATIENCE, ..quick() };
    let server = start(limits).await;
    let connect = || TcpStream::connect(server.address);
    let mut idle = connect().await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    answer(&mut idle, "hello").await;
    let mut half = connect().await.unwrap();
    half.write_all(b"GET / HT").await.unwrap();
    let mut busy = connect().await.unwrap();
    busy.write_all(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    server.stop.send_replace(true);
    answer(&mut busy, "2 bytes").await;
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
