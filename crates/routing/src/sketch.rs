//! Workers for tests, all in one: what is known of one, and what it holds of the prompt.

use crate::candidate::Candidate as Seen;
use crate::standing::{Facts, Standing};
use crate::{Decision, Explanation, NoChoice, Pending, Request, RoutingConfig, StepCost};
use estafette_types::{LoadRecord, SplitMix64};

/// See [`Facts`] and [`Seen`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: u32,
    pub(crate) load: LoadRecord,
    pub(crate) draining: bool,
    pub(crate) cached_blocks: u32,
    pub(crate) max_num_seqs: u32,
    pub(crate) max_waiting: u32,
    pub(crate) steps_per_token: f64,
    pub(crate) pending: Pending,
    pub(crate) step: StepCost,
    pub(crate) mean_attended: f64,
    pub(crate) affinity: u64,
}

impl Candidate {
    pub(crate) fn standing(&self) -> Standing {
        let &Self {
            load,
            draining,
            max_num_seqs,
            max_waiting,
            steps_per_token,
            pending,
            step,
            mean_attended,
            ..
        } = self;
        Standing::new(&Facts {
            load,
            draining,
            max_num_seqs,
            max_waiting,
            steps_per_token,
            pending,
            step,
            mean_attended,
        })
    }

    pub(crate) fn seen<'a>(&self, standing: &'a Standing) -> Seen<'a> {
        let &Self { slot, cached_blocks, affinity, .. } = self;
        Seen { slot, standing, cached_blocks, affinity }
    }
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
