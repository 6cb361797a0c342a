use super::*;
use crate::testing::{Authority, Folder};
use std::time::Instant;
use tokio_stream::StreamExt;

async fn server(
    tls: Option<Tls>,
    connections_max: usize,
) -> (ReceiverStream<io::Result<Accepted>>, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (incoming(listener, tls, connections_max), address)
}

fn member() -> Tls {
    let folder = Folder::new(&std::env::temp_dir());
    Tls::load(Authority::new().member(folder.path())).unwrap()
}

async fn next(incoming: &mut ReceiverStream<io::Result<Accepted>>) -> Option<Accepted> {
    let soon = Duration::from_millis(300);
    timeout(soon, incoming.next()).await.ok().flatten().map(Result::unwrap)
}

#[tokio::test]
async fn the_preface_is_looked_at_and_left_to_the_server() {
    let (mut incoming, address) = server(None, 4).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&PREFACE[..7]).await.unwrap();
    assert!(next(&mut incoming).await.is_none(), "half of it");
    client.write_all(&PREFACE[7..]).await.unwrap();
    let mut accepted = next(&mut incoming).await.unwrap();
    let mut read = [0; PREFACE.len()];
    accepted.read_exact(&mut read).await.unwrap();
    assert_eq!(read, PREFACE);
    let ServerStream::Plain(stream) = &accepted.stream else { panic!("not plain") };
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn half_a_preface_is_given_up_and_anything_else_at_once() {
    let (mut incoming, address) = server(None, 4).await;
    for (bytes, limit) in [(&PREFACE[..7], 9), (b"GET /", 2), (&[0x16, 3, 1, 2], 2)] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let began = Instant::now();
        // It ends or breaks, whatever is said before.
        drop(client.read_to_end(&mut Vec::new()).await);
        assert!(began.elapsed() < Duration::from_secs(limit), "{bytes:?}");
    }
    assert!(next(&mut incoming).await.is_none());
}

#[tokio::test]
async fn connections_at_once_are_bounded() {
    let (mut incoming, address) = server(None, 1).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        clients.push(client);
    }
    let first = next(&mut incoming).await.unwrap();
    assert!(next(&mut incoming).await.is_none(), "the second waits");
    drop(first);
    assert!(next(&mut incoming).await.is_some());
}

#[tokio::test]
async fn a_client_without_tls_is_told_in_its_own_protocol() {
    let (mut incoming, address) = server(Some(member()), 4).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, goodbye());
    assert!(String::from_utf8_lossy(&answer).contains("it speaks TLS"), "{answer:?}");
    assert!(next(&mut incoming).await.is_none());
}

#[tokio::test]
async fn the_listener_closes_with_the_stream() {
    let (incoming, address) = server(None, 4).await;
    drop(incoming);
    let began = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5), "it still listens");
        sleep(Duration::from_millis(10)).await;
    }
}
