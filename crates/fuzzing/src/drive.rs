//! The loop.

use crate::mutate::input;
use estafette_types::SplitMix64;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long each test drives its entry point.
const TIME: Duration = Duration::from_secs(1);
/// An input that takes longer than this is a finding, on however busy a machine.
const SLOW: Duration = Duration::from_secs(20);
/// The longest input.
const BYTES_MAX: usize = 8 << 10;

/// Gives `entry` every input of `corpus`, then for a second inputs that come from them and from `seed`.
///
/// # Panics
/// When `entry` does, or takes too long; the message holds the input in hex.
pub fn drive(entry: fn(&[u8]), seed: u64, corpus: &[&[u8]]) {
    for bytes in corpus {
        run(entry, bytes, "an input of the corpus");
    }
    let began = Instant::now();
    for number in 0.. {
        if began.elapsed() > TIME {
            return;
        }
        // Each has its own generator: a number and the seed are enough to make it again.
        let mut rng = SplitMix64::new(seed ^ SplitMix64::new(number).next_u64());
        let bytes = input(&mut rng, corpus, BYTES_MAX);
        run(entry, &bytes, &format!("input {number} of seed {seed}"));
    }
}

#[expect(clippy::panic, reason = "a finding fails the test")]
fn run(entry: fn(&[u8]), bytes: &[u8], name: &str) {
    let began = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| entry(bytes)));
    if ended.is_err() {
        panic!("{name} fails, in hex: {}", hex(bytes));
    }
    if began.elapsed() > SLOW {
        panic!("{name} takes {:?}, in hex: {}", began.elapsed(), hex(bytes));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
