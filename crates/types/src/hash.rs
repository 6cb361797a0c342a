//! Chained block hashes: equal hash means equal prefix.
//!
//! A block hash is xxh3-128 over the parent's hash (16 bytes, little endian; the seed for the first
//! block) and the block's token ids (4 bytes each, little endian). The chain makes one hash stand for
//! the whole prefix, as in vLLM's automatic prefix caching. At 10^10 live blocks the chance of any
//! collision among 128-bit values is about 10^-19.

use crate::TokenId;
use std::fmt;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The hash of a full block and of everything before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u128);

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl BlockHash {
    /// Little-endian bytes, as hashed and as sent on the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The hash in `bytes`, or `None` when there are not exactly 16.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_le_bytes(bytes.try_into().ok()?)))
    }

    /// The hash of the block holding `tokens` that follows the block `self`.
    pub fn child(self, tokens: &[TokenId]) -> Self {
        let mut bytes = Vec::with_capacity(16 + 4 * tokens.len());
        bytes.extend_from_slice(&self.to_bytes());
        for token in tokens {
            bytes.extend_from_slice(&token.to_le_bytes());
        }
        Self(xxh3_128(&bytes))
    }
}

/// The parent of every first block: keeps models, adapters and tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed(pub BlockHash);

impl HashSeed {
    /// The seed for a model, an adapter ("" for none) and a tenant salt ("" for none).
    pub fn new(model_digest: &[u8], adapter: &str, salt: &str) -> Self {
        let mut bytes = Vec::new();
        for part in [model_digest, adapter.as_bytes(), salt.as_bytes()] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Self(BlockHash(xxh3_128(&bytes)))
    }
}

/// The hashes of the full blocks of `tokens`; a partial last block has none.
pub fn block_hashes(seed: HashSeed, tokens: &[TokenId], block_size: usize) -> Vec<BlockHash> {
    let mut parent = seed.0;
    tokens
        .chunks_exact(block_size)
        .map(|block| {
            parent = parent.child(block);
            parent
        })
        .collect()
}

/// A hash of a name: of a worker, of a session. The same in every process.
pub fn name_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests;
