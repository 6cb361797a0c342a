//! How long a lookup takes and how many bytes a block costs.
//!
//! `cargo run --release -p estafette-kv-index --example lookup`
#![allow(clippy::print_stdout, reason = "it prints its result")]

use estafette_kv_index::{KvIndex, WorkerSlot};
use estafette_types::{BlockHash, KvEvent, SplitMix64};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WORKERS: u32 = 64;
const PROMPTS: usize = 20_000;
/// A prompt is a system prompt that every worker holds and a conversation that one or two hold.
const SYSTEM: usize = 32;
const CONVERSATION: usize = 96;
const ROUNDS: usize = 5;

struct Prompts {
    hashes: Vec<Vec<BlockHash>>,
    strangers: Vec<Vec<BlockHash>>,
}

impl Prompts {
    fn new(rng: &mut SplitMix64) -> Self {
        let mut chain = |n| (0..n).map(|_| BlockHash(rng.next_u128())).collect::<Vec<_>>();
        let system = chain(SYSTEM);
        let hashes = (0..PROMPTS).map(|_| [system.clone(), chain(CONVERSATION)].concat()).collect();
        let strangers = (0..PROMPTS).map(|_| chain(SYSTEM + CONVERSATION)).collect();
        Self { hashes, strangers }
    }
}

fn main() {
    let mut rng = SplitMix64::new(7);
    let (index, prompts) = (KvIndex::new(), Prompts::new(&mut rng));
    let mut stored = 0;
    let began = Instant::now();
    for prompt in &prompts.hashes {
        for _ in 0..=rng.below(2) {
            index.insert(WorkerSlot(rng.below(WORKERS.into()) as u32), prompt);
            stored += prompt.len();
        }
    }
    let held: u64 = (0..WORKERS).map(|slot| index.blocks_of(WorkerSlot(slot))).sum();
    let distinct = index.distinct_blocks();
    let bytes = index.memory_bytes() as f64;
    println!("store: {:.1} ns for each of {stored} events", nanos(began.elapsed(), stored));
    println!(
        "memory: {:.2} bytes for each of {held} (block, worker) pairs, {:.2} for each of {distinct} blocks",
        bytes / held as f64,
        bytes / distinct as f64,
    );
    lookups("lookup of a known prompt", &index, &prompts.hashes);
    lookups("lookup of an unknown prompt", &index, &prompts.strangers);
    beside_a_writer(&index, &prompts);
    let began = Instant::now();
    index.clear(WorkerSlot(0));
    println!("remove a worker: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
}

fn nanos(took: Duration, count: usize) -> f64 {
    took.as_nanos() as f64 / count as f64
}

fn lookups(what: &str, index: &KvIndex, prompts: &[Vec<BlockHash>]) {
    let mut times: Vec<_> = (0..ROUNDS)
        .flat_map(|_| prompts)
        .map(|prompt| {
            let began = Instant::now();
            black_box(index.matches(prompt));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_nanos();
    println!("{what}: p50 {} ns, p90 {} ns, p99 {} ns", at(0.5), at(0.9), at(0.99));
}

/// The same while snapshots are written without a pause.
fn beside_a_writer(index: &KvIndex, prompts: &Prompts) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let slot = WorkerSlot(WORKERS);
            while !stop.load(Ordering::Relaxed) {
                for prompt in &prompts.strangers {
                    let events = prompt.iter().map(|&hash| KvEvent::Stored(hash));
                    index.apply(slot, &events.collect::<Vec<_>>());
                }
                index.clear(slot);
            }
        });
        lookups("lookup of a known prompt beside a writer", index, &prompts.hashes);
        stop.store(true, Ordering::Relaxed);
    });
}
