//! The injector: what becomes of a frame, and when workers are killed, paused and cut off from each other.

use super::plan::{MILLI, Micros, Rates, SECOND};
use estafette_types::SplitMix64;

/// What becomes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// So much later than others.
    Late(Micros),
    Twice,
    /// It does not; with `Some` the connection is lost so much later.
    Dropped(Option<Micros>),
    /// Only so many of its bytes; with `true` the connection is lost with the rest.
    Cut(usize, bool),
    /// One bit of it is another.
    Damaged(usize, u8),
    /// The connection is lost with it.
    Lost,
}

/// Something that happens to workers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disaster {
    /// Nothing passes between the two for so long.
    Partition {
        prefill: usize,
        decode: usize,
        time: Micros,
    },
    KillPrefill {
        which: usize,
        back_after: Micros,
    },
    KillDecode {
        which: usize,
        back_after: Micros,
    },
    PausePrefill {
        which: usize,
        time: Micros,
    },
    PauseDecode {
        which: usize,
        time: Micros,
    },
}

/// The fate of a frame of `len` bytes.
pub(super) fn fate(rng: &mut SplitMix64, rates: &Rates, len: usize) -> Fate {
    let mut drawn = rng.below(1000);
    let mut is = |rate: u64| {
        let hit = drawn < rate;
        drawn = drawn.wrapping_sub(rate);
        hit
    };
    if is(rates.repeat) {
        return Fate::Twice;
    }
    if is(rates.drop) {
        let lost = rng.below(2) == 0;
        let later = rng.below(SECOND);
        return Fate::Dropped(lost.then_some(later));
    }
    if is(rates.truncate) {
        return Fate::Cut(rng.below(len as u64) as usize, rng.below(2) == 0);
    }
    if is(rates.corrupt) {
        return Fate::Damaged(rng.below(len as u64) as usize, 1 << rng.below(8));
    }
    if is(rates.delay) {
        return Fate::Late(rng.below(300 * MILLI));
    }
    if is(rates.lose) { Fate::Lost } else { Fate::Arrives }
}

/// All that happens to workers until the faults end, and when.
pub(super) fn disasters(
    rng: &mut SplitMix64,
    rates: &Rates,
    (prefills, decodes): (usize, usize),
    until: Micros,
) -> Vec<(Micros, Disaster)> {
    let mut all = Vec::new();
    let prefill = |rng: &mut SplitMix64| rng.below(prefills as u64) as usize;
    let decode = |rng: &mut SplitMix64| rng.below(decodes as u64) as usize;
    for _ in 0..rates.partition {
        let time = rng.below(2 * SECOND);
        let (prefill, decode) = (prefill(rng), decode(rng));
        all.push(Disaster::Partition { prefill, decode, time });
    }
    for _ in 0..rates.kill {
        let back_after = 50 * MILLI + rng.below(SECOND);
        all.push(if rng.below(2) == 0 {
            Disaster::KillPrefill { which: prefill(rng), back_after }
        } else {
            Disaster::KillDecode { which: decode(rng), back_after }
        });
    }
    for _ in 0..rates.pause {
        let time = rng.below(3 * SECOND);
        all.push(if rng.below(2) == 0 {
            Disaster::PausePrefill { which: prefill(rng), time }
        } else {
            Disaster::PauseDecode { which: decode(rng), time }
        });
    }
    all.into_iter().map(|disaster| (rng.below(until), disaster)).collect()
}
