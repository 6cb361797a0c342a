//! Policies that follow the longest match as long as some threshold lets them. The originals keep an approximate text
//! tree; here they see exact blocks.

use super::pools::{Part, PoolPolicy, least};
use crate::router::{Ask, Seat};
use estafette_types::SplitMix64;

/// The share of the prompt that `seat` holds.
pub(super) fn matched(ask: &Ask, seat: &Seat) -> f64 {
    f64::from(seat.cached_blocks) * f64::from(ask.block_size) / f64::from(ask.prompt_tokens.max(1))
}

/// SGLang router 0.3.2 and SMG with their command line's defaults: the best match above 0.3, else the least loaded; the
/// least loaded too when the loads differ by more than 64 and by more than half.
#[derive(Debug)]
pub(super) struct CacheAware;

const MATCH_THRESHOLD: f64 = 0.3;
const BALANCE_ABS: u64 = 64;
const BALANCE_REL: f64 = 1.5;

impl PoolPolicy for CacheAware {
    fn pick(&mut self, _part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let loads = || seats.iter().map(|seat| seat.booked.requests);
        let (most, fewest) = (loads().max().unwrap_or(0), loads().min().unwrap_or(0));
        let skewed = most - fewest > BALANCE_ABS && most as f64 > BALANCE_REL * fewest as f64;
        let best = seats.iter().map(|seat| matched(ask, seat)).fold(0.0, f64::max);
        if skewed || best <= MATCH_THRESHOLD {
            least(seats, rng, |seat| seat.booked.requests as f64)
        } else {
            least(seats, rng, |seat| -matched(ask, seat))
        }
    }
}

/// The vLLM production stack's `kvaware` router: the longest match unless more than 2000 tokens of the prompt are left,
/// then the one with the fewest requests.
#[derive(Debug)]
pub(super) struct VllmKvAware;

const UNMATCHED_TOKENS_MAX: u32 = 2000;

impl PoolPolicy for VllmKvAware {
    fn pick(&mut self, _part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let longest = seats.iter().map(|seat| seat.cached_blocks).max().unwrap_or(0);
        if longest == 0
            || longest * ask.block_size < ask.prompt_tokens.saturating_sub(UNMATCHED_TOKENS_MAX)
        {
            least(seats, rng, |seat| seat.booked.requests as f64)
        } else {
            least(seats, rng, |seat| -f64::from(seat.cached_blocks))
        }
    }
}
