//! Both workers without a router: the same request gives the same tokens wherever its prompt is computed.

use estafette_config::Transport;
use estafette_integration_tests::leg::{TestRequest, aggregated, disaggregated};
use estafette_integration_tests::model::{TINY_VOCAB, prompt};
use estafette_integration_tests::worker::{TestWorker, WorkerOptions};
use estafette_types::Role;

#[tokio::test]
async fn first_hand_off() {
    for transport in [Transport::Tcp, Transport::Shm] {
        let options = WorkerOptions::default().transport(transport);
        let prefill = TestWorker::start(Role::Prefill, &options).await;
        let decode = TestWorker::start(Role::Decode, &options).await;
        let request = TestRequest::greedy(prompt(1, 40, TINY_VOCAB), 20);
        let both = disaggregated(&prefill, &decode, &request).await;
        assert!(both.was_handed_over());
        let alone = aggregated(&decode, &request).await;
        assert_eq!(both.tokens(), alone.tokens);
    }
}
