//! What went wrong in production elsewhere, as far as pure routing can get it wrong. `docs/lessons.md` lists all lessons, with
//! whose they are and where each is tested.

mod bookings;
mod herding;
mod prefixes;
mod shares;
mod ties;
mod town;

use crate::sketch::{Candidate, choose, explain};
use crate::standing::Facts;
use crate::{
    Booking, Choice, Decision, Fleet, NoChoice, Pending, Receipts, Request, RoutingConfig,
    StepCost, WorkerTraits,
};
use estafette_types::{LoadRecord, Role, SplitMix64};
use std::collections::BTreeMap;

pub(crate) const BLOCKS: u64 = 10_000;

pub(crate) fn idle(slot: u32) -> Candidate {
    Candidate {
        slot,
        cached_blocks: 0,
        affinity: 0,
        facts: Facts {
            load: LoadRecord { free_blocks: BLOCKS, total_blocks: BLOCKS, ..LoadRecord::default() },
            draining: false,
            max_num_seqs: 64,
            max_waiting: 64,
            steps_per_token: 1.0 / 512.0,
            pending: Pending::default(),
            step: StepCost::default(),
            mean_attended: 100.0,
        },
    }
}

pub(crate) fn pool(slots: std::ops::Range<u32>) -> Vec<Candidate> {
    slots.map(idle).collect()
}

pub(crate) fn request(prompt_tokens: u32) -> Request {
    Request { prompt_tokens, block_size: 16, max_tokens: 128, session: None }
}

pub(crate) fn decide(
    request: &Request,
    prefill: &[Candidate],
    decode: &[Candidate],
) -> Result<Decision, NoChoice> {
    choose(request, prefill, decode, &RoutingConfig::default(), &mut SplitMix64::new(1))
}

fn traits(slot: u32) -> WorkerTraits {
    WorkerTraits {
        role: Role::Decode,
        max_num_seqs: 64,
        max_waiting: 256,
        max_num_batched_tokens: 512,
        takes_kv: true,
        name_hash: u64::from(slot),
    }
}

/// The load of a worker without work.
fn nothing() -> LoadRecord {
    idle(0).load
}
