//! Policies that minimise one cost. `L` tokens of the prompt, `u` of them uncached there, `Q` prompt tokens that wait or
//! run there, `C` tokens of the contexts there, `r` requests there, `B` tokens of a block.

use super::pools::{Part, PoolPolicy, least};
use crate::router::{Ask, Seat};
use estafette_types::SplitMix64;

fn uncached(ask: &Ask, seat: &Seat) -> f64 {
    f64::from(ask.uncached(seat.cached_blocks))
}

fn waiting(seat: &Seat) -> f64 {
    seat.booked.prefill_tokens as f64
}

fn context(seat: &Seat) -> f64 {
    seat.booked.context_tokens as f64
}

/// `Q + u`; streams go where `C` is least.
#[derive(Debug)]
pub(super) struct LeastWork;

impl PoolPolicy for LeastWork {
    fn pick(&mut self, part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        least(seats, rng, |seat| match part {
            Part::Prompt | Part::Both => waiting(seat) + uncached(ask, seat),
            Part::Stream => context(seat),
        })
    }
}

/// Dynamo's KV router 1.6.1 (`dynamo-kv-router`, reference selector) with its defaults and hits on the device only:
/// `(Q + u + C)/B`; a pool that only computes prompts has no `C`, one that only streams `max(0, C + L − hit)`.
#[derive(Debug)]
pub(super) struct Dynamo;

impl PoolPolicy for Dynamo {
    fn pick(&mut self, part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let length = f64::from(ask.prompt_tokens);
        least(seats, rng, |seat| {
            let hit = f64::from(seat.cached_blocks) * f64::from(ask.block_size);
            match part {
                Part::Prompt => waiting(seat) + uncached(ask, seat),
                Part::Both => waiting(seat) + uncached(ask, seat) + context(seat),
                Part::Stream => (context(seat) + length - hit).max(0.0),
            }
        })
    }
}

/// LMetric (arXiv 2603.15202): new prefill tokens × batch size. Its text allows two readings of the first factor: the
/// request's own tokens, or those that wait too.
#[derive(Debug)]
pub(super) struct LMetric {
    pub(super) counts_waiting: bool,
}

impl PoolPolicy for LMetric {
    fn pick(&mut self, part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        least(seats, rng, |seat| {
            let tokens =
                uncached(ask, seat) + if self.counts_waiting { waiting(seat) } else { 0.0 };
            let batch = seat.booked.requests as f64 + 1.0;
            if part == Part::Stream { context(seat) } else { tokens * batch }
        })
    }
}

/// Baseten's selector for Dynamo with the figures of its configuration, at the limit of a small temperature:
/// `3.5·(0.35·Q + u)/B + (0.8·C + L)/B + 0.02·miss`, where a miss is `L` for prompts up to 4,096 tokens and `u` above.
#[derive(Debug)]
pub(super) struct Baseten;

impl PoolPolicy for Baseten {
    fn pick(&mut self, part: Part, ask: &Ask, seats: &[Seat], rng: &mut SplitMix64) -> usize {
        let (length, block) = (f64::from(ask.prompt_tokens), f64::from(ask.block_size));
        least(seats, rng, |seat| {
            let miss = if ask.prompt_tokens <= 4096 { length } else { uncached(ask, seat) };
            let prefill = 3.5 * (0.35 * waiting(seat) + uncached(ask, seat)) / block + 0.02 * miss;
            let decode = (0.8 * context(seat) + length) / block;
            match part {
                Part::Prompt => prefill,
                Part::Both => prefill + decode,
                Part::Stream => decode,
            }
        })
    }
}
