//! What a second worker on the same cores does to the steps of the first.

use anyhow::{Result, anyhow};
use estafette_engine::bench::{Bench, Neighbour, StepGrid, StepSample, StepShape};
use estafette_simulator::Sharing;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// What the neighbour is to do: rest, work, or leave.
const REST: u8 = 0;
const WORK: u8 = 1;
const LEAVE: u8 = 2;
/// How often it looks, and how long its model may take to load.
const LOOK: Duration = Duration::from_millis(5);
const LOADING_MAX: Duration = Duration::from_secs(60);

/// Prompts beside a worker that decodes, and the other way round: what a prefill and a decode worker do to each other.
pub(super) fn measure(
    bench: &mut Bench,
    grid: &StepGrid,
    rounds: u32,
    second: impl Fn() -> Result<Bench> + Sync,
) -> Result<Sharing> {
    let mut slowdown = |kind, is: fn(&StepShape) -> bool| -> Result<f64> {
        let ratios = pairs(bench, grid, rounds, kind, &second)?;
        let of_kind = ratios.into_iter().filter(|(shape, _)| is(shape)).map(|(_, ratio)| ratio);
        Ok(super::median(&of_kind.collect::<Vec<_>>()).max(1.0))
    };
    Ok(Sharing {
        prompts: slowdown(Neighbour::Decodes, |shape| shape.sequences == 0)?,
        decodes: slowdown(Neighbour::Prompts, |shape| shape.chunks.is_empty())?,
    })
}

/// How many times longer each step took beside a neighbour than just before, alone: rounds of both in turn, so that others
/// who use the machine disturb both alike.
fn pairs(
    bench: &mut Bench,
    grid: &StepGrid,
    rounds: u32,
    kind: Neighbour,
    second: &(impl Fn() -> Result<Bench> + Sync),
) -> Result<Vec<(StepShape, f64)>> {
    let (order, ready) = (AtomicU8::new(REST), AtomicU8::new(REST));
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| -> Result<()> {
            let mut bench = second()?;
            ready.store(WORK, Ordering::Relaxed);
            loop {
                match order.load(Ordering::Relaxed) {
                    REST => std::thread::sleep(LOOK),
                    WORK => bench.work(kind)?,
                    _ => return Ok(()),
                }
            }
        });
        let began = Instant::now();
        while ready.load(Ordering::Relaxed) == REST
            && !neighbour.is_finished()
            && began.elapsed() < LOADING_MAX
        {
            std::thread::sleep(LOOK);
        }
        let measured = rounds_of_both(bench, grid, rounds, &order);
        order.store(LEAVE, Ordering::Relaxed);
        neighbour.join().map_err(|_| anyhow!("the second engine panicked"))??;
        measured
    })
}

fn rounds_of_both(
    bench: &mut Bench,
    grid: &StepGrid,
    rounds: u32,
    order: &AtomicU8,
) -> Result<Vec<(StepShape, f64)>> {
    // The first one finds nothing in the cache.
    bench.steps(grid)?;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let alone = bench.steps(grid)?;
        order.store(WORK, Ordering::Relaxed);
        let beside = bench.steps(grid)?;
        order.store(REST, Ordering::Relaxed);
        ratios.extend(ratios_of(&alone, &beside));
    }
    Ok(ratios)
}

/// Beside to alone, for steps of one shape.
fn ratios_of(alone: &[StepSample], beside: &[StepSample]) -> Vec<(StepShape, f64)> {
    let alone: BTreeMap<_, _> = alone.iter().map(|s| (&s.shape, s.micros)).collect();
    let ratio = |sample: &StepSample| {
        let micros = alone.get(&sample.shape)?;
        Some((sample.shape.clone(), sample.micros as f64 / (*micros).max(1) as f64))
    };
    beside.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests;
