//! What a seed means.

use crate::{HandoffLayout, ReceiverLimits};
use estafette_kernels::KvLayout;
use estafette_types::SplitMix64;
use std::time::Duration;

/// Microseconds of virtual time.
pub(super) type Micros = u64;

pub(super) const MILLI: Micros = 1_000;
pub(super) const SECOND: Micros = 1_000 * MILLI;

/// One request: when its two legs come, and how large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) prefill: usize,
    pub(super) decode: usize,
    pub(super) blocks: u32,
    /// Leading blocks that the decode worker has already.
    pub(super) cached: u32,
    pub(super) push_at: Micros,
    pub(super) leg_at: Micros,
    /// How long push and leg wait.
    pub(super) push_time: Micros,
    pub(super) leg_time: Micros,
    /// Between two steps of its prompt.
    pub(super) step: Micros,
    /// Blocks of one chunk of its prompt.
    pub(super) chunk: u32,
    /// Whether its legs are given up, after so long.
    pub(super) abort_after: Option<Micros>,
    pub(super) cancel_after: Option<Micros>,
    /// Tried again under the same id when it fails.
    pub(super) again: bool,
}

/// How often what goes wrong, in a thousand frames, or (for the last ones) so often in the whole run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) repeat: u64,
    pub(super) drop: u64,
    pub(super) truncate: u64,
    pub(super) corrupt: u64,
    pub(super) delay: u64,
    pub(super) lose: u64,
    pub(super) partition: u64,
    pub(super) kill: u64,
    pub(super) pause: u64,
}

/// A known bug, put back in, to show that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// Slots of a revoked transfer are freed at once: vllm #32255, sglang #24527.
    FreesAtOnce,
    /// Headers have no checksum of their own, so that damage to one goes unnoticed.
    UncheckedHeaders,
    /// What has come is taken to be right.
    UncheckedUnits,
}

/// The run that belongs to a seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) rng: SplitMix64,
    pub(super) layout: HandoffLayout,
    pub(super) prefills: usize,
    pub(super) decodes: usize,
    /// Whether the workers of a pair share memory.
    pub(super) one_sided: Vec<Vec<bool>>,
    pub(super) source_blocks: u32,
    pub(super) part_units: usize,
    pub(super) limits: ReceiverLimits,
    pub(super) requests: Vec<Request>,
    pub(super) rates: Rates,
    /// When the faults end.
    pub(super) calm_at: Micros,
    pub(super) bug: Option<Bug>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let kv = KvLayout {
            num_blocks: 4 + rng.below(9) as u32,
            block_size: 1,
            layers: 1 + rng.below(5) as u32,
            kv_heads: 1,
            head_dim: 1 + rng.below(8) as u32,
        };
        let layout = HandoffLayout {
            kv,
            layers_per_group: 1 + rng.below(2) as u32,
            model_digest: Vec::new(),
            numerics_id: String::new(),
        };
        let (prefills, decodes) = (1 + rng.below(3) as usize, 1 + rng.below(3) as usize);
        let one_sided =
            (0..prefills).map(|_| (0..decodes).map(|_| rng.below(2) == 0).collect()).collect();
        let unit = layout.unit_bytes(0) as u64;
        let limits = ReceiverLimits {
            unknown_wait: Duration::from_millis(200 + rng.below(2000)),
            credit_bytes: unit * (2 + rng.below(20)),
            resend_units: rng.below(8) as usize,
            ..ReceiverLimits::default()
        };
        let requests = (0..3 + rng.below(12))
            .map(|_| request(&mut rng, prefills, decodes, kv.num_blocks))
            .collect();
        let rates = rates(&mut rng);
        let part_units = 1 + rng.below(4) as usize;
        let calm_at = SECOND * (1 + rng.below(6));
        let source_blocks = 64;
        Self {
            seed,
            rng,
            layout,
            prefills,
            decodes,
            one_sided,
            source_blocks,
            part_units,
            limits,
            requests,
            rates,
            calm_at,
            bug: None,
        }
    }
}

fn request(rng: &mut SplitMix64, prefills: usize, decodes: usize, pool: u32) -> Request {
    let blocks = 1 + rng.below(u64::from(pool.min(6))) as u32;
    let at = rng.below(3 * SECOND);
    let maybe = |rng: &mut SplitMix64, chance: u64, most: Micros| {
        let (drawn, after) = (rng.below(100) < chance, rng.below(most));
        drawn.then_some(after)
    };
    Request {
        prefill: rng.below(prefills as u64) as usize,
        decode: rng.below(decodes as u64) as usize,
        blocks,
        cached: if rng.below(3) == 0 { rng.below(u64::from(blocks) + 1) as u32 } else { 0 },
        push_at: at + rng.below(300 * MILLI),
        leg_at: at + rng.below(300 * MILLI),
        push_time: SECOND + rng.below(5 * SECOND),
        leg_time: SECOND + rng.below(5 * SECOND),
        step: 1 + rng.below(20 * MILLI),
        chunk: 1 + rng.below(3) as u32,
        abort_after: maybe(rng, 10, 400 * MILLI),
        cancel_after: maybe(rng, 10, 400 * MILLI),
        again: rng.below(2) == 0,
    }
}

/// One run in eight is undisturbed; in the others each kind of fault is there or not.
fn rates(rng: &mut SplitMix64) -> Rates {
    if rng.below(8) == 0 {
        return Rates::default();
    }
    let mut rate = |most: u64| if rng.below(2) == 0 { 1 + rng.below(most) } else { 0 };
    Rates {
        repeat: rate(60),
        drop: rate(30),
        truncate: rate(20),
        corrupt: rate(60),
        delay: rate(200),
        lose: rate(20),
        partition: rate(4),
        kill: rate(4),
        pause: rate(4),
    }
}
