//! Our block index beside `kv-index` and Dynamo's: the same events and prompts, rounds in turn.
//!
//! `cargo run --release [ROUNDS [WORKERS...]]`
#![forbid(unsafe_code)]

mod indexes;
mod load;
mod report;

use cap::Cap;
use estafette_types::SplitMix64;
use indexes::{Chain, Index, Ours, dynamo_positional, dynamo_radix};
use load::{Event, Load, Prompt};
use report::{Report, Round};
use rustix::time::{ClockId, clock_gettime};
use std::alloc::System;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Blocks of a prompt.
pub const LENGTHS: [usize; 3] = [16, 128, 1024];
/// Workers and chats of each set.
const SETS: [(u32, usize); 4] = [(4, 2_000), (64, 8_000), (1_000, 20_000), (4_000, 20_000)];
/// Events that the writer beside the reader makes ready at once.
const BESIDE: usize = 256;
const ROUNDS: usize = 5;

/// Prompts by length, as the load made them.
type Prompts = [Vec<Prompt>; LENGTHS.len()];

fn main() {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (rounds, only) = arguments.split_first().map_or((ROUNDS, &[][..]), |(r, w)| (*r, w));
    for (workers, chats) in SETS {
        if only.is_empty() || only.contains(&(workers as usize)) {
            print!("{}", set(workers, chats, rounds));
        }
    }
}

fn set(workers: u32, chats: usize, rounds: usize) -> Report {
    let mut rng = SplitMix64::new(workers.into());
    let load = Load::new(workers, chats, &mut rng);
    let prompts = LENGTHS.map(|length| load.prompts(length, &mut rng));
    let mut report = Report::new(&load);
    for round in 0..rounds {
        for turn in 0..4 {
            match (round + turn) % 4 {
                0 => report.add("ours", run(Ours::new, &load, &prompts)),
                1 => report.add("kv-index", run(Chain::new, &load, &prompts)),
                2 => report.add("dynamo radix", run(dynamo_radix, &load, &prompts)),
                _ => report.add("dynamo positional", run(dynamo_positional, &load, &prompts)),
            }
        }
    }
    report
}

fn run<I: Index>(new: impl Fn(u32) -> I, load: &Load, prompts: &Prompts) -> Round {
    let before = HEAP.allocated();
    let index = new(load.workers);
    let stored = apply(&index, load, &load.build);
    let bytes = HEAP.allocated() - before;
    let churned = apply(&index, load, &load.churn);
    let own = prompts.each_ref().map(|of_length| {
        of_length.iter().map(|prompt| index.prompt(&prompt.blocks)).collect::<Vec<_>>()
    });
    let alone = own.each_ref().map(|prompts| lookups(&index, prompts));
    let beside = beside_a_writer(&index, load, &own);
    Round { stored, churned, bytes, alone, beside, wrong: check(&index, load, prompts, &own) }
}

/// Nanoseconds for each block: by the clock, and of CPU time of all threads.
fn apply<I: Index>(index: &I, load: &Load, events: &[Event]) -> [f64; 2] {
    let blocks: usize = events.iter().map(|event| event.blocks()).sum();
    let events = index.events(load, events);
    let (began, cpu) = (Instant::now(), cpu_nanos());
    index.apply(events);
    [began.elapsed().as_nanos() as f64, cpu_nanos() - cpu].map(|nanos| nanos / blocks as f64)
}

fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Nanoseconds of a lookup: p50 and p99. The first pass is not counted.
fn lookups<I: Index>(index: &I, prompts: &[I::Prompt]) -> [f64; 2] {
    let mut nanos = Vec::new();
    for pass in 0..3 {
        for prompt in prompts {
            let began = Instant::now();
            let found = black_box(index.find(black_box(prompt)));
            let took = began.elapsed().as_nanos() as f64;
            drop(found);
            if pass > 0 {
                nanos.push(took);
            }
        }
    }
    nanos.sort_by(f64::total_cmp);
    [nanos[nanos.len() / 2], nanos[nanos.len() * 99 / 100]]
}

/// The same while a writer takes tails away and stores them again without a pause.
fn beside_a_writer<I: Index>(
    index: &I,
    load: &Load,
    prompts: &[Vec<I::Prompt>; LENGTHS.len()],
) -> [[f64; 2]; LENGTHS.len()] {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let half = load.churn.len() / 2;
            while !stop.load(Ordering::Relaxed) {
                for from in (0..half).step_by(BESIDE) {
                    let to = half.min(from + BESIDE);
                    index.apply(index.events(load, &load.churn[from..to]));
                    index.apply(index.events(load, &load.churn[half + from..half + to]));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        });
        let times = prompts.each_ref().map(|prompts| lookups(index, prompts));
        stop.store(true, Ordering::Relaxed);
        times
    })
}

/// Of all prompts, how many are answered wrongly: after the churn, while there are holes, after they are stored again.
fn check<I: Index>(
    index: &I,
    load: &Load,
    prompts: &Prompts,
    own: &[Vec<I::Prompt>; LENGTHS.len()],
) -> [usize; 3] {
    let wrong = |holes: &[Event]| {
        let all = prompts.iter().flatten().zip(own.iter().flatten());
        let right =
            |prompt: &Prompt, own| index.sorted(index.find(own)) == load.answer(prompt, holes);
        all.filter(|(prompt, own)| !right(prompt, own)).count()
    };
    let steady = wrong(&[]);
    index.apply(index.events(load, &load.holes));
    let with_holes = wrong(&load.holes);
    let filled: Vec<_> = load.holes.iter().map(|&hole| Event { stored: true, ..hole }).collect();
    index.apply(index.events(load, &filled));
    [steady, with_holes, wrong(&[])]
}
