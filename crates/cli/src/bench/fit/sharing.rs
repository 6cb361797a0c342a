//! What a second worker on the same cores does to the steps of the first.

use anyhow::{Result, anyhow, ensure};
use estafette_engine::bench::{Bench, Neighbour, StepGrid, StepSample, StepShape};
use estafette_simulator::Sharing;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often each looks what the other does, and how long that may take: loading the model, or the rest of some work.
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// What the neighbour is told to do, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Loading,
    Resting,
    Working,
    Leaving,
}

#[derive(Debug)]
struct Orders {
    order: Mutex<Doing>,
    doing: Mutex<Doing>,
}

impl Orders {
    fn new() -> Self {
        Self { order: Mutex::new(Doing::Resting), doing: Mutex::new(Doing::Loading) }
    }

    /// Tells the neighbour, and waits until it does it: what is measured then is measured beside that alone.
    fn tell(&self, order: Doing) -> Result<()> {
        set(&self.order, order);
        let began = Instant::now();
        while get(&self.doing) != order {
            ensure!(began.elapsed() < PATIENCE, "the second engine does not get to its work");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The neighbour: does what it is told until it is told to leave.
    fn follow(&self, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        loop {
            let order = get(&self.order);
            set(&self.doing, order);
            match order {
                Doing::Working => work()?,
                Doing::Leaving => return Ok(()),
                Doing::Loading | Doing::Resting => std::thread::sleep(LOOK),
            }
        }
    }
}

fn get(doing: &Mutex<Doing>) -> Doing {
    *doing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(doing: &Mutex<Doing>, to: Doing) {
    *doing.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

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
    let orders = Orders::new();
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| -> Result<()> {
            let mut bench = second()?;
            orders.follow(|| Ok(bench.work(kind)?))
        });
        let measured = rounds_of_both(bench, grid, rounds, &orders);
        set(&orders.order, Doing::Leaving);
        neighbour.join().map_err(|_| anyhow!("the second engine panicked"))??;
        measured
    })
}

fn rounds_of_both(
    bench: &mut Bench,
    grid: &StepGrid,
    rounds: u32,
    orders: &Orders,
) -> Result<Vec<(StepShape, f64)>> {
    // The first one finds nothing in the cache.
    bench.steps(grid)?;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        orders.tell(Doing::Resting)?;
        let alone = bench.steps(grid)?;
        orders.tell(Doing::Working)?;
        let beside = bench.steps(grid)?;
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
