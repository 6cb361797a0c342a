//! From content ids to block hashes: what tokenising and hashing are in production.

use crate::workload::{Turn, Workload};
use estafette_types::{BlockHash, HashSeed, TokenId};

/// The hash seed of all simulated workers.
pub(crate) fn hash_seed() -> HashSeed {
    HashSeed::new(b"simulator", "", "")
}

/// A content id as it stands in a block: whose id, which, from which token on and how many tokens.
type Piece = [TokenId; 6];

/// The content of a turn, cut into pieces of blocks.
struct Content<'a> {
    turn: &'a Turn,
    number: u32,
    namespace: u64,
    content_block: u32,
    run: usize,
    used: u32,
    /// Tokens that the ids still cover.
    left: u64,
}

/// The hashes of the full blocks of turn `number`. They are chained like those of real tokens: two prompts share a hash
/// exactly if all ids up to there are equal.
pub(crate) fn prompt_hashes(
    workload: &Workload,
    number: u32,
    namespace: u64,
    block_size: u32,
) -> Vec<BlockHash> {
    let turn = &workload.turns[number as usize];
    let ids: u64 = turn.content.iter().map(|run| u64::from(run.count)).sum();
    let left = (ids * u64::from(workload.content_block)).min(u64::from(turn.input_tokens));
    let content_block = workload.content_block;
    let mut content = Content { turn, number, namespace, content_block, run: 0, used: 0, left };
    let mut parent = hash_seed().0;
    let mut words: Vec<TokenId> = Vec::new();
    (0..turn.input_tokens / block_size)
        .map(|_| {
            words.clear();
            content.block(block_size, &mut words);
            parent = parent.child(&words);
            parent
        })
        .collect()
}

impl Content<'_> {
    /// The pieces of the next `tokens` tokens.
    fn block(&mut self, mut tokens: u32, words: &mut Vec<TokenId>) {
        while tokens > 0 {
            let (piece, length) = self.piece(tokens);
            words.extend_from_slice(&piece);
            tokens -= length;
        }
    }

    fn piece(&mut self, tokens: u32) -> (Piece, u32) {
        while self.turn.content.get(self.run).is_some_and(|run| run.count == 0) {
            self.run += 1;
        }
        let Some(run) = self.turn.content.get(self.run).filter(|_| self.left > 0) else {
            // No id: this turn's own.
            return ([u32::MAX, 0, self.number, u32::MAX, 0, tokens], tokens);
        };
        let offset = self.used % self.content_block;
        let length = tokens
            .min(self.content_block - offset)
            .min(u32::try_from(self.left).unwrap_or(u32::MAX));
        let id = run.first.wrapping_add(u64::from(self.used / self.content_block));
        let piece = [
            self.namespace as u32,
            (self.namespace >> 32) as u32,
            id as u32,
            (id >> 32) as u32,
            offset,
            length,
        ];
        self.left -= u64::from(length);
        self.used += length;
        if self.used / self.content_block >= run.count {
            self.run += 1;
            self.used = 0;
        }
        (piece, length)
    }
}

#[cfg(test)]
mod tests;
