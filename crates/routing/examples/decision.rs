//! How long a decision takes.
//!
//! `cargo run --release -p estafette-routing --example decision`
#![allow(clippy::print_stdout, reason = "it prints its result")]

use estafette_routing::{Candidate, Pending, Request, RoutingConfig, StepCost, choose};
use estafette_types::{LoadRecord, SplitMix64};
use std::hint::black_box;
use std::time::Instant;

const DECISIONS: usize = 5_000;

/// A worker with some load, none like another.
fn worker(slot: u32, rng: &mut SplitMix64) -> Candidate {
    let waiting_sequences = rng.below(8);
    let decoding_sequences = rng.below(48);
    Candidate {
        slot,
        load: LoadRecord {
            waiting_sequences,
            waiting_prefill_tokens: waiting_sequences * rng.below(4_000),
            decoding_sequences,
            decoding_tokens: decoding_sequences * rng.below(4_000),
            free_blocks: 5_000 + rng.below(5_000),
            total_blocks: 20_000,
            ..LoadRecord::default()
        },
        draining: rng.below(50) == 0,
        affinity: 0,
        mean_attended: 100.0,
        cached_blocks: (rng.below(10) / 9 * rng.below(100)) as u32,
        max_num_seqs: 64,
        max_waiting: 64,
        steps_per_token: 1.0 / 512.0,
        pending: Pending {
            sequences: rng.below(3),
            prefill_tokens: rng.below(4_000),
            context_tokens: rng.below(9_000),
        },
        step: StepCost::default(),
    }
}

fn main() {
    let (config, mut rng) = (RoutingConfig::default(), SplitMix64::new(9));
    println!("a candidate takes {} bytes", size_of::<Candidate>());
    for workers in [2, 16, 256, 1_000, 4_000] {
        let mut pool = |slots: std::ops::Range<u32>| -> Vec<Candidate> {
            slots.map(|slot| worker(slot, &mut rng)).collect()
        };
        let (prefill, decode) = (pool(0..workers / 2), pool(workers / 2..workers));
        let mut times: Vec<_> = (0..DECISIONS)
            .map(|_| {
                let prompt_tokens = 100 + rng.below(8_000) as u32;
                let request =
                    Request { prompt_tokens, block_size: 16, max_tokens: 256, session: None };
                let began = Instant::now();
                let _decision = black_box(choose(&request, &prefill, &decode, &config, &mut rng));
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        let micros = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
        println!("{workers:5} workers: p50 {:6.1} us, p99 {:6.1} us", micros(0.5), micros(0.99));
    }
}
