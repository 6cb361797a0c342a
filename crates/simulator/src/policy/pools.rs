//! A rule for one pool, applied to both.

use crate::router::{Ask, RouterPolicy, Seat};
use estafette_routing::{Choice, NoChoice};
use estafette_types::{Role, SplitMix64};

/// What a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Computes prompts and hands them over.
    Prompt,
    /// Takes them over and streams.
    Stream,
    /// Does both.
    Both,
}

/// A policy for one pool.
pub(super) trait PoolPolicy: std::fmt::Debug {
    /// One of `seats`, which are not empty, by position.
    fn pick(&mut self, part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize;
}

/// The policy for both pools.
#[derive(Debug)]
pub(super) struct Pools {
    rule: Box<dyn PoolPolicy>,
    rng: SplitMix64,
    disaggregated: bool,
}

impl Pools {
    pub(super) fn new(rule: Box<dyn PoolPolicy>, rng: SplitMix64) -> Self {
        Self { rule, rng, disaggregated: false }
    }

    fn slot(&mut self, part: Part, ask: &Ask, seats: &[Seat]) -> u32 {
        seats[self.rule.pick(part, ask, seats, &mut self.rng)].slot
    }
}

impl RouterPolicy for Pools {
    fn choose(&mut self, ask: &Ask, seats: &[Seat]) -> Result<Choice, NoChoice> {
        let split = seats.partition_point(|seat| seat.role == Role::Prefill);
        let (prefill, decode) = seats.split_at(split);
        self.disaggregated |= !prefill.is_empty();
        if decode.is_empty() || (self.disaggregated && prefill.is_empty()) {
            return Err(NoChoice::Saturated);
        }
        if !self.disaggregated {
            return Ok(Choice::Aggregated { decode: self.slot(Part::Both, ask, decode) });
        }
        let prefill = self.slot(Part::Prompt, ask, prefill);
        Ok(Choice::Disaggregated { prefill, decode: self.slot(Part::Stream, ask, decode) })
    }
}

/// The position with the least cost, at random among equals.
pub(super) fn least(seats: &[Seat], rng: &mut SplitMix64, cost: impl Fn(&Seat) -> f64) -> usize {
    let costs: Vec<f64> = seats.iter().map(cost).collect();
    let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let ties = costs.iter().filter(|cost| **cost <= best).count() as u64;
    let drawn = rng.below(ties) as usize;
    let mut equals = costs.iter().enumerate().filter(|(_, cost)| **cost <= best).map(|(i, _)| i);
    equals.nth(drawn).unwrap_or(0)
}
