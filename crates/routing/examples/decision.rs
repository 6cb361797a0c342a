//! How long a decision takes, with all that belongs to it: who could take the request, what each holds of it, the scores, the
//! choice, and booking it.
//!
//! `cargo run --release -p estafette-routing --example decision`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints its result")]

use estafette_routing::{Choice, Fleet, Receipt, Request, RoutingConfig, WorkerTraits};
use estafette_types::{LoadRecord, Role, SplitMix64};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DECISIONS: usize = 5_000;
/// Legs that run at once, for each worker.
const LIVE: usize = 4;

fn traits(slot: u32, workers: u32) -> WorkerTraits {
    WorkerTraits {
        role: if slot < workers / 2 { Role::Prefill } else { Role::Decode },
        max_num_seqs: 64,
        max_waiting: 64,
        max_num_batched_tokens: 512,
        takes_kv: true,
        name_hash: u64::from(slot),
    }
}

/// A worker with some load, none like another.
fn load(rng: &mut SplitMix64) -> LoadRecord {
    let waiting_sequences = rng.below(8);
    let decoding_sequences = rng.below(48);
    LoadRecord {
        waiting_sequences,
        waiting_prefill_tokens: waiting_sequences * rng.below(4_000),
        decoding_sequences,
        decoding_tokens: decoding_sequences * rng.below(4_000),
        free_blocks: 5_000 + rng.below(5_000),
        total_blocks: 20_000,
        ..LoadRecord::default()
    }
}

/// Decides, books, and lets the oldest request end; a worker's record comes after each decision. Of the decision alone, and of
/// the record.
fn measure(workers: u32, rng: &mut SplitMix64) -> (Vec<Duration>, Vec<Duration>) {
    let mut fleet = Fleet::new(RoutingConfig::default());
    for slot in 0..workers {
        fleet.join(slot, traits(slot, workers));
        fleet.heard(slot, &load(rng), rng.below(50) == 0);
    }
    let mut live: VecDeque<Receipt> = VecDeque::new();
    let (mut decisions, mut records) = (Vec::new(), Vec::new());
    for _ in 0..DECISIONS {
        let held: Vec<u32> =
            (0..workers).map(|_| (rng.below(10) / 9 * rng.below(100)) as u32).collect();
        let prompt_tokens = 100 + rng.below(8_000) as u32;
        let request = Request { prompt_tokens, block_size: 16, max_tokens: 256, session: None };
        let cached = |slot: u32| held[slot as usize];
        let began = Instant::now();
        let decision = fleet.choose(&request, cached, |_| true, rng).unwrap();
        let (computes, streams) = match decision.choice {
            Choice::Aggregated { decode } => (decode, None),
            Choice::Disaggregated { prefill, decode } => (prefill, Some(decode)),
        };
        live.push_back(fleet.book(computes, &request, cached(computes), true));
        live.extend(streams.map(|slot| fleet.book(slot, &request, cached(slot), false)));
        decisions.push(began.elapsed());
        let record = load(rng);
        let began = Instant::now();
        fleet.heard(rng.below(u64::from(workers)) as u32, &record, false);
        records.push(began.elapsed());
        while live.len() > LIVE * workers as usize {
            live.pop_front().into_iter().for_each(|receipt| fleet.finished(receipt));
        }
    }
    (decisions, records)
}

fn main() {
    let mut rng = SplitMix64::new(9);
    for workers in [2, 16, 256, 1_000, 4_000] {
        let (decisions, records) = measure(workers, &mut rng);
        let micros = |times: &[Duration], percent: usize| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times[times.len() * percent / 100].as_secs_f64() * 1e6
        };
        println!(
            "{workers:5} workers: a decision p50 {:6.1} us, p99 {:6.1} us; a record p50 {:4.1} us, p99 {:4.1} us",
            micros(&decisions, 50),
            micros(&decisions, 99),
            micros(&records, 50),
            micros(&records, 99),
        );
    }
}
