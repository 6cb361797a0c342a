//! How fast blocks get from one process into another's pool, beside what the machine can do:
//! `cargo run --release -p estafette-kv-transfer --example kv_bench [-- ROUNDS]`.
//!
//! A batch is 1,024 blocks of 64 KiB out of pools of 4,096, scattered at both ends by two independent permutations. Its
//! time is from asking for the grant until the receiver has said that every block is in its place and verified.
//! Beside it, in turns: one thread's memcpy of the same blocks between two pools of one process; the same blocks
//! through one plain socket into scattered blocks of another process; and the checksums alone.
//!
//! Prints the seconds of each round as JSON: `integration-tests/bench/bench.py --only kv` makes a table of them.

mod receiving;
mod sending;
mod workload;

use std::error::Error;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match std::env::args().nth(1).as_deref() {
        Some("receive") => runtime.block_on(receiving::run()),
        rounds => runtime.block_on(sending::run(rounds.map_or(Ok(12), str::parse)?)),
    }
}
