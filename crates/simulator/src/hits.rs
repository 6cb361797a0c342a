//! What a cache without end would find.

use crate::workload::Workload;
use std::collections::BTreeSet;

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BestHits {
    /// Content blocks of all prompts, a partial last one included where it has an id.
    pub blocks: u64,
    /// Those that came before, behind a prefix that did too.
    pub hit_blocks: u64,
    /// Tokens of all prompts.
    pub tokens: u64,
    /// Those that a cache without end holds. The last token of a prompt is always computed.
    pub hit_tokens: u64,
}

impl BestHits {
    /// Of tokens.
    pub fn token_ratio(&self) -> f64 {
        self.hit_tokens as f64 / self.tokens.max(1) as f64
    }

    /// Of blocks.
    pub fn block_ratio(&self) -> f64 {
        self.hit_blocks as f64 / self.blocks.max(1) as f64
    }
}

/// The hits of one cache for the whole cluster that forgets nothing, in the order of the file.
pub fn best_hits(workload: &Workload) -> BestHits {
    let mut seen: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut sum = BestHits::default();
    for session in &workload.sessions {
        for turn in &workload.turns[session.turns.start as usize..session.turns.end as usize] {
            let ids = turn.content.iter().flat_map(|run| {
                (0..u64::from(run.count)).map(|i| (session.namespace, run.first.wrapping_add(i)))
            });
            let (mut hit, mut all, mut unbroken) = (0, 0, true);
            for id in ids {
                all += 1;
                unbroken &= !seen.insert(id);
                hit += u64::from(unbroken);
            }
            let input = u64::from(turn.input_tokens);
            sum.blocks += all;
            sum.hit_blocks += hit;
            sum.tokens += input;
            sum.hit_tokens += (hit * u64::from(workload.content_block)).min(input - 1);
        }
    }
    sum
}

#[cfg(test)]
mod tests;
