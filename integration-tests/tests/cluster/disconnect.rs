//! A client that goes away frees what it held within one step.

use estafette_integration_tests::cluster::{Cluster, chat_body};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a_client_that_disconnects_frees_its_blocks_within_one_step() {
    for args in [&["--prefill", "0"][..], &[]] {
        let cluster = Cluster::start(args);
        let story = "A long story about a baton. ".repeat(100);
        let extra = json!({ "stream": true, "max_tokens": 2000, "ignore_eos": true });
        let mut events = cluster.http.stream("/v1/chat/completions", &chat_body(&story, &extra));
        for _ in 0..5 {
            events.next_data();
        }
        assert_eq!(cluster.metric("estafette_worker_decoding_sequences", &[]), 1);
        drop(events);
        let dropped = Instant::now();
        let steps = || cluster.metric("estafette_worker_steps_total", &["decode"]);
        let decoding = || cluster.metric("estafette_worker_decoding_sequences", &[]);
        while decoding() > 0 {
            assert!(dropped.elapsed() < Duration::from_secs(20), "it runs on");
        }
        let at_end = steps();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(steps(), at_end, "nothing runs any more");
        let free = cluster.metric("estafette_worker_free_blocks", &[]);
        assert_eq!(free, cluster.metric("estafette_worker_total_blocks", &[]));
        // 2,000 tokens were asked for: it did not just finish.
        assert!(cluster.metric("estafette_tokens_total", &["generated"]) < 1900);
        assert_eq!(cluster.metric("estafette_requests_total", &["cancelled"]), 1);
    }
}
