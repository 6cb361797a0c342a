//! The whole cluster as a person starts it: real processes, real sockets, the real model.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod bad_input;
mod counts;
mod disconnect;
mod drain;
mod grpc;
mod lessons;
mod openai_client;
mod repair;
mod resume;
mod same_tokens;
mod serving;
mod soak;
mod stalls;
mod startup;
mod waiting;

use estafette_integration_tests::cluster::Cluster;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One prefill and one decode worker, shared by the tests that leave no trace. It ends with the last of them.
fn shared() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut weak = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    weak.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(&[]));
        *weak = Arc::downgrade(&cluster);
        cluster
    })
}
