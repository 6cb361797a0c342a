//! What the tests over whole workers share: workers in this process, a stand-in for the router, clients of
//! legs and of state streams.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

pub mod chat;
pub mod cluster;
pub mod hand;
pub mod http;
pub mod leg;
pub mod membership;
pub mod model;
pub mod process;
pub mod soak;
pub mod state;
pub mod story;
pub mod stream;
pub mod worker;

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes this long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whether something becomes so in time; asked again and again.
pub fn eventually(mut so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if so() {
            return true;
        }
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
