//! Workers for tests, all in one: what is known of one, and what it holds of the prompt.

use crate::candidate::Candidate as Seen;
use crate::standing::{Facts, Standing};
use crate::{Booking, Decision, Explanation, NoChoice, Receipts, Request, RoutingConfig};
use estafette_types::{LoadRecord, SplitMix64};
use std::ops::{Deref, DerefMut};

/// A [`Seen`] that owns what it is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: u32,
    pub(crate) cached_blocks: u32,
    pub(crate) affinity: u64,
    pub(crate) facts: Facts,
}

impl Deref for Candidate {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl DerefMut for Candidate {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }
}

impl Candidate {
    pub(crate) fn standing(&self) -> Standing {
        Standing::new(&self.facts)
    }

    pub(crate) fn seen<'a>(&self, standing: &'a Standing) -> Seen<'a> {
        let &Self { slot, cached_blocks, affinity, .. } = self;
        Seen { slot, standing, cached_blocks, affinity }
    }
}

/// A worker that legs are booked on, and such a leg.
pub(crate) const SLOT: u32 = 3;
pub(crate) const LEG: Booking = Booking { prefill_tokens: 100, context_tokens: 120 };

/// The load of a worker with so many sequences.
pub(crate) fn record(sequences: u64) -> LoadRecord {
    LoadRecord { waiting_sequences: sequences, ..LoadRecord::default() }
}

/// Legs that are pending there, and that are live.
pub(crate) fn counts(receipts: &Receipts) -> (u64, u64) {
    (receipts.pending(SLOT).sequences, receipts.live(SLOT))
}

/// Calls `then` with both pools as the score sees them.
fn with_pools<R>(
    prefill: &[Candidate],
    decode: &[Candidate],
    then: impl FnOnce(&[Seen<'_>], &[Seen<'_>]) -> R,
) -> R {
    let standings = |pool: &[Candidate]| pool.iter().map(Candidate::standing).collect::<Vec<_>>();
    let (of_prefill, of_decode) = (standings(prefill), standings(decode));
    let seen: Vec<_> = prefill.iter().zip(&of_prefill).map(|(c, s)| c.seen(s)).collect();
    let streaming: Vec<_> = decode.iter().zip(&of_decode).map(|(c, s)| c.seen(s)).collect();
    then(&seen, &streaming)
}

pub(crate) fn choose(
    request: &Request,
    prefill: &[Candidate],
    decode: &[Candidate],
    config: &RoutingConfig,
    rng: &mut SplitMix64,
) -> Result<Decision, NoChoice> {
    with_pools(prefill, decode, |prefill, decode| {
        crate::choose::choose(request, prefill, decode, config, rng)
    })
}

pub(crate) fn explain(
    request: &Request,
    prefill: &[Candidate],
    decode: &[Candidate],
    config: &RoutingConfig,
) -> Explanation {
    with_pools(prefill, decode, |prefill, decode| {
        crate::explain::explain(request, prefill, decode, config)
    })
}
