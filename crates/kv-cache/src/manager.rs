//! Allocation, sharing and eviction of blocks.

use crate::lru::Lru;
use estafette_types::{BlockHash, BlockId, KvEvent};
use thiserror::Error;

/// The blocks of one sequence, in the order of its tokens. Give it back with [`BlockManager::release`].
#[derive(Debug, Default)]
pub struct BlockTable {
    blocks: Vec<BlockId>,
}

impl BlockTable {
    /// Logical block → physical block.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }
}

/// The pool has too few blocks that nobody uses. Nothing was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{needed} blocks are needed and {free} are free")]
pub struct OutOfBlocks {
    /// Asked for.
    pub needed: u64,
    /// There.
    pub free: u64,
}

/// A broken invariant of the manager's own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("block {block:?}: {problem}")]
pub struct IntegrityError {
    /// Where.
    pub block: BlockId,
    /// What does not fit together.
    pub problem: &'static str,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Tables that hold it.
    users: u32,
    /// Set when it is full and computed: it may be shared.
    hash: Option<BlockHash>,
}

/// Hash to block. Looked up, never walked in a way that shows.
#[expect(clippy::disallowed_types, reason = "looked up only; its order reaches nobody")]
type Shared = std::collections::HashMap<BlockHash, BlockId>;

/// Who holds which block.
#[derive(Debug)]
pub struct BlockManager {
    block_size: u32,
    blocks: Vec<Block>,
    /// Used by nobody, with nothing in them to share.
    free: Vec<BlockId>,
    /// Cached and used by nobody, least recently used first.
    evictable: Lru,
    shared: Shared,
    events: Vec<KvEvent>,
    evictions: u64,
}

impl BlockManager {
    /// A pool of `num_blocks` blocks of `block_size` tokens, all free.
    pub fn new(num_blocks: u32, block_size: u32) -> Self {
        assert!(block_size > 0, "a block holds at least one token");
        Self {
            block_size,
            blocks: vec![Block::default(); num_blocks as usize],
            free: (0..num_blocks).rev().map(BlockId).collect(),
            evictable: Lru::new(num_blocks),
            shared: Shared::default(),
            events: Vec::new(),
            evictions: 0,
        }
    }

    /// Tokens in a block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Blocks of the pool.
    pub fn total_blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Blocks that can be had at once: unused, or cached and used by nobody.
    pub fn free_blocks(&self) -> u64 {
        self.free.len() as u64 + u64::from(self.evictable.len())
    }

    /// Blocks for `tokens` tokens.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_size as usize)
    }

    /// How many of the first blocks of a prompt with these hashes are cached.
    pub fn match_prefix(&self, hashes: &[BlockHash]) -> usize {
        hashes.iter().take_while(|hash| self.shared.contains_key(*hash)).count()
    }

    /// How many hashes have left the cache. While it stays the same, a prefix that was cached is still cached.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// A table for `num_tokens` tokens that shares the cached prefix, `max_shared` blocks at most, and how
    /// many blocks it shares.
    ///
    /// # Errors
    /// When too few blocks are free; then nothing has changed.
    pub fn allocate(
        &mut self,
        hashes: &[BlockHash],
        max_shared: usize,
        num_tokens: usize,
    ) -> Result<(BlockTable, usize), OutOfBlocks> {
        let total = self.blocks_for(num_tokens);
        let shared = self.match_prefix(&hashes[..hashes.len().min(max_shared).min(total)]);
        let found: Vec<BlockId> = hashes[..shared].iter().map(|hash| self.shared[hash]).collect();
        // Shared blocks that nobody uses now stop being evictable: they cannot serve as new ones too.
        let revived = found.iter().filter(|block| self.block(**block).users == 0).count();
        let needed = (total - shared) as u64;
        let free = self.free_blocks() - revived as u64;
        if needed > free {
            return Err(OutOfBlocks { needed, free });
        }
        let mut table = BlockTable { blocks: Vec::with_capacity(total) };
        for block in found {
            if self.block(block).users == 0 {
                self.evictable.remove(block);
            }
            self.block_mut(block).users += 1;
            table.blocks.push(block);
        }
        self.take_new(&mut table, needed);
        Ok((table, shared))
    }

    /// Makes `table` hold `num_tokens` tokens.
    ///
    /// # Errors
    /// When too few blocks are free; then nothing has changed.
    pub fn grow(&mut self, table: &mut BlockTable, num_tokens: usize) -> Result<(), OutOfBlocks> {
        let needed = self.blocks_for(num_tokens).saturating_sub(table.blocks.len()) as u64;
        if needed > self.free_blocks() {
            return Err(OutOfBlocks { needed, free: self.free_blocks() });
        }
        self.take_new(table, needed);
        Ok(())
    }

    fn take_new(&mut self, table: &mut BlockTable, count: u64) {
        for _ in 0..count {
            let Some(block) = self.free.pop().or_else(|| self.evict()) else { return };
            self.block_mut(block).users = 1;
            table.blocks.push(block);
        }
    }

    /// Forgets the content of the least recently used block that nobody uses.
    fn evict(&mut self) -> Option<BlockId> {
        let block = self.evictable.pop_front()?;
        if let Some(hash) = self.block_mut(block).hash.take() {
            self.shared.remove(&hash);
            self.events.push(KvEvent::Removed(hash));
            self.evictions += 1;
        }
        Some(block)
    }

    /// The block at `index` of `table` is full and computed: others may share it. When another block with
    /// this hash is there already, that one stays the shared one and this stays private.
    pub fn publish(&mut self, table: &BlockTable, index: usize, hash: BlockHash) {
        let block = table.blocks[index];
        if self.block(block).hash.is_none() && !self.shared.contains_key(&hash) {
            self.block_mut(block).hash = Some(hash);
            self.shared.insert(hash, block);
            self.events.push(KvEvent::Stored(hash));
        }
    }

    /// Takes a table back. Published blocks stay cached until their memory is needed.
    pub fn release(&mut self, table: BlockTable) {
        // Backwards: the tail gets older than the head, so it is evicted first.
        for block in table.blocks.into_iter().rev() {
            let state = self.block_mut(block);
            state.users -= 1;
            match (state.users, state.hash) {
                (0, Some(_)) => self.evictable.push_back(block),
                (0, None) => self.free.push(block),
                _ => {}
            }
        }
    }

    /// What changed since the last call. Each hash is in it once at most: a block that came and went in
    /// between is left out.
    pub fn take_events(&mut self) -> Vec<KvEvent> {
        let events = std::mem::take(&mut self.events);
        if events.len() < 2 { events } else { net(events) }
    }

    /// The hashes that can be shared, in no particular order of time, sorted.
    pub fn cached_hashes(&self) -> Vec<BlockHash> {
        let mut hashes: Vec<_> = self.blocks.iter().filter_map(|block| block.hash).collect();
        hashes.sort_unstable();
        hashes
    }

    /// Checks conservation against the tables that are out.
    ///
    /// # Errors
    /// The first block that is lost, counted twice or shared wrongly.
    pub fn check_integrity<'a>(
        &self,
        tables: impl Iterator<Item = &'a BlockTable>,
    ) -> Result<(), IntegrityError> {
        let mut users = vec![0; self.blocks.len()];
        for block in tables.flat_map(|table| &table.blocks) {
            users[block.0 as usize] += 1;
        }
        let mut places = vec![0; self.blocks.len()];
        for block in self.free.iter().copied().chain(self.evictable.iter()) {
            places[block.0 as usize] += 1;
        }
        for (i, state) in self.blocks.iter().enumerate() {
            let block = BlockId(i as u32);
            let error = |problem| Err(IntegrityError { block, problem });
            if state.users != users[i] {
                return error("its users are not the tables that hold it");
            }
            if places[i] != u32::from(state.users == 0) {
                return error("it is not exactly one of used, evictable and free");
            }
            if state.hash.is_some_and(|hash| self.shared.get(&hash) != Some(&block)) {
                return error("its hash does not lead to it");
            }
        }
        let hashed = self.blocks.iter().filter(|block| block.hash.is_some()).count();
        if hashed != self.shared.len() {
            return Err(IntegrityError { block: BlockId(0), problem: "a hash leads nowhere" });
        }
        Ok(())
    }

    fn block(&self, block: BlockId) -> &Block {
        &self.blocks[block.0 as usize]
    }

    fn block_mut(&mut self, block: BlockId) -> &mut Block {
        &mut self.blocks[block.0 as usize]
    }
}

/// Keeps of each hash what holds in the end, relative to the beginning.
fn net(events: Vec<KvEvent>) -> Vec<KvEvent> {
    use std::collections::BTreeMap;
    // First and last event of each hash: equal kinds survive, opposite ones cancel out.
    let mut ends: BTreeMap<BlockHash, (bool, bool)> = BTreeMap::new();
    for event in events {
        let (hash, stored) = match event {
            KvEvent::Stored(hash) => (hash, true),
            KvEvent::Removed(hash) => (hash, false),
            // A manager forgets one block at a time.
            KvEvent::Cleared => continue,
        };
        ends.entry(hash).or_insert((stored, stored)).1 = stored;
    }
    let lasting = ends.into_iter().filter(|(_, (first, last))| first == last);
    lasting
        .map(
            |(hash, (_, stored))| {
                if stored { KvEvent::Stored(hash) } else { KvEvent::Removed(hash) }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests;
