//! The scheduler's side of a hand-off: blocks reserved for KV that arrives, and held for KV that leaves.

use crate::plan::StepEvent;
use crate::scheduler::Scheduler;
use crate::sequence::{Mode, Status};
use estafette_kv_cache::BlockTable;
use estafette_types::{BlockHash, BlockId, SequenceId, TokenId};
use thiserror::Error;

/// Blocks for the whole prompt of a sequence whose KV is about to arrive, and for the output that was given with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// In the order of the prompt's tokens.
    pub table: Vec<BlockId>,
    /// The first ones hold the right KV already: they must not be written.
    pub cached_blocks: usize,
}

/// Why blocks could not be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReserveError {
    /// Not now; when running sequences end there may be room.
    #[error("{needed} blocks are needed and {free} are free")]
    OutOfBlocks {
        /// Asked for.
        needed: u64,
        /// There.
        free: u64,
    },
    /// Not now; when running sequences end there may be a place.
    #[error("all {max_num_seqs} places in the batch are taken")]
    BatchFull {
        /// Places there are.
        max_num_seqs: u32,
    },
    /// It ended, fell back, or never was.
    #[error("no sequence waits for this hand-off")]
    Unknown,
}

/// Blocks that a hand-off still reads or writes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) table: BlockTable,
    /// Of the leading blocks that can be shared once the hand-off has let go.
    verified: Vec<BlockHash>,
}

impl Held {
    /// Blocks that are only read: what can be shared of them is shared already.
    pub(crate) fn read(table: BlockTable) -> Self {
        Self { table, verified: Vec::new() }
    }
}

impl Scheduler {
    /// Reserves blocks for the whole prompt, all or nothing, and a place in the batch. Cached blocks may be
    /// evicted for it, running sequences are never preempted. A second call gives the same blocks. Whoever
    /// reserves sees to it that [`Scheduler::adopt`] or [`Scheduler::fall_back`] follows in bounded time: until
    /// then the place stays empty.
    ///
    /// # Errors
    /// When there are too few blocks or places, or nobody waits.
    pub fn reserve(&mut self, id: SequenceId) -> Result<Reservation, ReserveError> {
        let has_place = self.free_places() > 0;
        let max_num_seqs = self.config.max_num_seqs;
        let sequence = self.sequences.get_mut(&id).ok_or(ReserveError::Unknown)?;
        if sequence.status != Status::AwaitingKv {
            return Err(ReserveError::Unknown);
        }
        if sequence.table.blocks().is_empty() && !has_place {
            return Err(ReserveError::BatchFull { max_num_seqs });
        }
        if sequence.table.blocks().is_empty() {
            // Here a fully cached prompt may be shared whole: its first token is computed elsewhere.
            let max_shared = sequence.hashes.len();
            let (table, shared) = self
                .blocks
                .allocate(&sequence.hashes, max_shared, sequence.given_len)
                .map_err(|e| ReserveError::OutOfBlocks { needed: e.needed, free: e.free })?;
            sequence.table = table;
            sequence.num_published = shared;
        }
        let (table, cached_blocks) = (sequence.table.blocks().to_vec(), sequence.num_published);
        Ok(Reservation { table, cached_blocks })
    }

    /// The KV of the whole prompt and of the given output is there and verified, and `first` was chosen elsewhere
    /// as the next token: the sequence joins the batch. That token is not reported again.
    pub fn adopt(&mut self, id: SequenceId, first: TokenId) -> Vec<StepEvent> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Vec::new() };
        if sequence.status != Status::AwaitingKv || sequence.table.blocks().is_empty() {
            return Vec::new();
        }
        sequence.status = Status::Running;
        sequence.num_computed = sequence.given_len;
        sequence.high_water = sequence.given_len;
        sequence.next_index += 1;
        let ended = sequence.push_token(first, self.longest);
        self.start_running(id);
        self.publish(id);
        ended.and_then(|reason| self.finish(id, reason)).into_iter().collect()
    }

    /// The hand-off of `id` failed, but its first `blocks` blocks hold the right KV and nobody can write to them any more:
    /// they can be shared from now on, so whoever computes the prompt begins behind them. To be followed by
    /// [`Scheduler::fall_back`] or [`Scheduler::cancel`].
    pub fn keep_verified(&mut self, id: SequenceId, blocks: usize) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let reserved = sequence.table.blocks().len();
        if sequence.status != Status::AwaitingKv || reserved == 0 {
            return;
        }
        // A block that the prompt does not fill has no hash.
        for (index, hash) in sequence.hashes.iter().take(blocks.min(reserved)).enumerate() {
            self.blocks.publish(&sequence.table, index, *hash);
        }
    }

    /// The hand-off failed and nobody can write its blocks any more: the prompt is computed here when
    /// its turn by age comes, and the token that the hand-off would have brought is reported too.
    pub fn fall_back(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        if sequence.status != Status::AwaitingKv {
            return;
        }
        let table = std::mem::take(&mut sequence.table);
        sequence.mode = Mode::Local;
        sequence.status = Status::Waiting;
        sequence.num_published = 0;
        self.blocks.release(table);
        self.waiting.insert(id);
    }

    /// Keeps the blocks of `id` for a hand-off that still reads or writes them, although its sequence ends or goes on without
    /// them. [`Scheduler::release_held`] frees them; of those that are written, the first `verified` hold the right KV and can
    /// be shared then.
    pub fn hold(&mut self, id: SequenceId, verified: usize) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            let table = std::mem::take(&mut sequence.table);
            if !table.blocks().is_empty() {
                let verified = verified.min(table.blocks().len());
                let verified = sequence.hashes.iter().take(verified).copied().collect();
                self.held.insert(id, Held { table, verified });
            }
        }
    }

    /// The hand-off does not touch the blocks of `id` any more.
    pub fn release_held(&mut self, id: SequenceId) {
        if let Some(Held { table, verified }) = self.held.remove(&id) {
            for (index, hash) in verified.into_iter().enumerate() {
                self.blocks.publish(&table, index, hash);
            }
            self.blocks.release(table);
        }
    }
}
