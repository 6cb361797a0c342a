//! More requests than the workers take: they wait in the router, within limits.

use estafette_integration_tests::cluster::{Cluster, chat_body};
use estafette_integration_tests::eventually;
use estafette_integration_tests::http::Reply;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";

/// Six answers that are asked for at once, of a cluster that takes two.
fn crowd(cluster: &Cluster) -> Vec<Reply> {
    let body = chat_body("Hi", &json!({ "max_tokens": 60, "ignore_eos": true }));
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..6).map(|_| scope.spawn(|| cluster.http.post(CHAT, &body))).collect();
        sent.into_iter().map(|reply| reply.join().unwrap()).collect()
    })
}

const SMALL: [&str; 6] = ["--prefill", "0", "--max-num-seqs", "1", "--max-waiting", "1"];

#[test]
fn when_every_queue_is_full_requests_wait_in_the_router() {
    let cluster = Cluster::start(&SMALL);
    let (mut most, mut replies) = (0, Vec::new());
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| crowd(&cluster));
        while !crowd.is_finished() {
            most = most.max(cluster.metric("estafette_requests_waiting", &[]));
        }
        replies = crowd.join().unwrap();
    });
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert!(
        (4..6).contains(&most),
        "{most}: one runs, one waits at the worker when it has said so"
    );
    cluster.wait_until_idle();
    assert_eq!(cluster.metric("estafette_requests_waiting", &[]), 0);
}

#[test]
fn when_the_waiting_room_is_full_or_the_wait_too_long_the_client_is_told_to_come_back() {
    for flags in [["--max-waiting-requests", "1"], ["--max-wait", "50ms"]] {
        let cluster = Cluster::start(&[&SMALL[..], &flags].concat());
        let replies = crowd(&cluster);
        let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
        assert!(!refused.is_empty() && refused.len() < replies.len(), "{flags:?}");
        for reply in refused {
            assert_eq!(reply.error().1, "overloaded");
            assert_eq!((reply.status, reply.retry_after.as_deref()), (429, Some("1")));
        }
        cluster.wait_until_idle();
    }
}

#[test]
fn whoever_gives_up_waiting_leaves_no_trace() {
    let cluster = Cluster::start(&SMALL);
    let long = json!({ "max_tokens": 1500, "ignore_eos": true, "stream": true });
    let body = chat_body("Hi", &long).to_string();
    let length = body.len();
    let post = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let send = |()| {
        let mut stream = TcpStream::connect(&cluster.http_address).unwrap();
        stream.write_all(post.as_bytes()).unwrap();
        stream
    };
    let waiting = || cluster.metric("estafette_requests_waiting", &[]);
    let at_worker = || cluster.metric("estafette_worker_waiting_sequences", &[]);
    let running = [(); 2].map(send);
    assert!(eventually(|| at_worker() == 1 && waiting() == 0));
    let impatient = [(); 4].map(send);
    assert!(eventually(|| waiting() == 4));
    drop(impatient);
    assert!(eventually(|| waiting() == 0));
    assert_eq!(cluster.metric("estafette_requests_running", &[]), 2);
    drop(running);
    cluster.wait_until_idle();
}
