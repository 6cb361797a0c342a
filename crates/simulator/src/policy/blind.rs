//! Policies that look at no cache.

use super::pools::{Part, PoolPolicy, least};
use crate::router::{Ask, Seat};
use estafette_types::SplitMix64;

#[derive(Debug)]
pub(super) struct Random;

impl PoolPolicy for Random {
    fn pick(&mut self, _part: Part, _ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        rng.below(seats.len() as u64) as usize
    }
}

/// Turns of the pool that computes, and of the one that streams.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    turns: [usize; 2],
}

impl PoolPolicy for RoundRobin {
    fn pick(&mut self, part: Part, _ask: &Ask, seats: &[Seat], _rng: &mut SplitMix64) -> usize {
        let turn = &mut self.turns[usize::from(part == Part::Stream)];
        *turn += 1;
        (*turn - 1) % seats.len()
    }
}

#[derive(Debug)]
pub(super) struct LeastLoaded;

impl PoolPolicy for LeastLoaded {
    fn pick(&mut self, _part: Part, _ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        least(seats, rng, |seat| seat.booked.requests as f64)
    }
}

#[derive(Debug)]
pub(super) struct PowerOfTwo;

impl PoolPolicy for PowerOfTwo {
    fn pick(&mut self, _part: Part, _ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let count = seats.len() as u64;
        let first = rng.below(count) as usize;
        // Another one, when there is another one.
        let second = (first + 1 + rng.below(count.saturating_sub(1)) as usize) % seats.len();
        if seats[second].booked.requests < seats[first].booked.requests { second } else { first }
    }
}
