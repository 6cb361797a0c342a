//! llm-d's two generations.

use super::cache_aware::matched;
use super::pools::{Part, PoolPolicy, least};
use crate::router::{Ask, Seat};
use estafette_types::SplitMix64;

/// The weighted sum of the repository's configurations: 2 × the share of the prompt that matches, 1 × how short the queue
/// is among all, 1 × how much KV memory is free.
#[derive(Debug)]
pub(super) struct WeightedSum;

impl PoolPolicy for WeightedSum {
    fn pick(&mut self, _part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let queues = || seats.iter().map(|seat| seat.load.waiting_sequences as f64);
        let (longest, shortest) =
            (queues().fold(0.0, f64::max), queues().fold(f64::INFINITY, f64::min));
        least(seats, rng, |seat| {
            let queue = seat.load.waiting_sequences as f64;
            let short =
                if longest > shortest { (longest - queue) / (longest - shortest) } else { 1.0 };
            let free = seat.load.free_blocks as f64 / seat.load.total_blocks.max(1) as f64;
            -(2.0 * matched(ask, seat) + short + free)
        })
    }
}

/// Since mid-2026 (llm-d PR 1651 and 2071): those that hold 80 % of the prompt, unless the best of them has 286,720 tokens
/// more in flight than the best of the others; among what is left the fewest tokens in flight.
#[derive(Debug)]
pub(super) struct Sticky;

const STICKY_MATCH: f64 = 0.8;
const RELEASE_TOKENS: u64 = 286_720;

impl PoolPolicy for Sticky {
    fn pick(&mut self, _part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let sticky = |seat: &Seat| matched(ask, seat) >= STICKY_MATCH;
        let best = |stuck: bool| {
            let side = seats.iter().filter(|seat| sticky(seat) == stuck);
            side.map(|seat| seat.booked.context_tokens).min()
        };
        let stays = match (best(true), best(false)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(stuck), Some(free)) => stuck <= free + RELEASE_TOKENS,
        };
        least(seats, rng, |seat| {
            if stays && !sticky(seat) { f64::INFINITY } else { seat.booked.context_tokens as f64 }
        })
    }
}
