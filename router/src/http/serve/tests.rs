use super::*;

/// Elsewhere Nagle's algorithm cost each stream 40 ms.
#[tokio::test]
async fn accepted_sockets_send_each_token_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let places = Arc::new(Semaphore::new(1));
    let (_client, accepted) = tokio::join!(TcpStream::connect(address), accept(&listener, &places));
    assert!(accepted.unwrap().0.nodelay().unwrap());
}
