//! The decision, term by term.

use crate::candidate::Candidate;
use crate::choose::{DecodeScores, Scores};
use crate::cost::Scorer;
use crate::{Filtered, Request, RoutingConfig, Terms};

/// Every term for every candidate, in the order in which they were given.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The prefill pool: as the one that computes the prompt and hands it over.
    pub prefill: Vec<Explained>,
    /// The decode pool: as the one that takes the KV over and streams.
    pub decode: Vec<Explained>,
    /// The decode pool: as the one that does it all.
    pub aggregated: Vec<Explained>,
    /// By how much the prefill pool's backlog multiplies the cost of this prompt to others.
    pub prefill_pressure: f64,
    /// The same for the decode pool.
    pub decode_pressure: f64,
}

/// One candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explained {
    /// Its slot.
    pub slot: u32,
    /// Tokens it would have to compute.
    pub uncached_tokens: u32,
    /// Its score, or why it has none.
    pub score: Result<Terms, Filtered>,
}

/// What [`crate::choose::choose`] computes from the same arguments.
pub(crate) fn explain(
    request: &Request,
    prefill: &[Candidate<'_>],
    decode: &[Candidate<'_>],
    config: &RoutingConfig,
) -> Explanation {
    let scorer = Scorer::new(request, config);
    let prefill_pressure = Scores::prefill(&scorer, prefill).pressure(&scorer);
    let decode_pressure = DecodeScores::new(&scorer, decode).aggregated.pressure(&scorer);
    let all = |pool: &[Candidate<'_>], terms: &dyn Fn(&Candidate<'_>) -> Terms| -> Vec<Explained> {
        pool.iter()
            .map(|candidate| Explained {
                slot: candidate.slot,
                uncached_tokens: scorer.uncached(candidate),
                score: scorer.filtered(candidate).map_or_else(|| Ok(terms(candidate)), Err),
            })
            .collect()
    };
    Explanation {
        prefill: all(prefill, &|c| scorer.prefill(c).under(prefill_pressure)),
        decode: all(decode, &|c| scorer.decode(c)),
        aggregated: all(decode, &|c| scorer.aggregated(c).under(decode_pressure)),
        prefill_pressure,
        decode_pressure,
    }
}
