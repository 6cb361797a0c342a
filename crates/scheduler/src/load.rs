//! The load record: exact counts, taken between two steps.

use crate::scheduler::Scheduler;
use crate::sequence::{Sequence, Status};
use estafette_types::{LoadRecord, Usage};

impl Scheduler {
    /// What waits, runs and is done. `step_micros` is the caller's to fill in.
    pub fn load(&self) -> LoadRecord {
        let mut load = LoadRecord {
            free_blocks: self.blocks.free_blocks(),
            total_blocks: self.blocks.total_blocks(),
            done: self.done_so_far(),
            prefill_attended: self.prefill_attended,
            steps: self.steps,
            ..LoadRecord::default()
        };
        for sequence in self.sequences.values() {
            match sequence.status {
                Status::Waiting => {
                    load.waiting_sequences += 1;
                    load.waiting_prefill_tokens += self.uncached_tokens(sequence);
                }
                // Its prompt is computed elsewhere; it waits, but nothing here waits for it.
                Status::AwaitingKv => load.waiting_sequences += 1,
                Status::Running if sequence.is_decoding() => {
                    load.decoding_sequences += 1;
                    load.decoding_tokens += sequence.num_computed as u64;
                }
                Status::Running => {
                    load.prefilling_sequences += 1;
                    load.running_prefill_tokens += sequence.num_pending() as u64;
                }
            }
        }
        load
    }

    /// Of ended sequences, and of those that run.
    fn done_so_far(&self) -> Usage {
        self.sequences.values().fold(self.done, |mut sum, sequence| {
            sum += sequence.usage;
            sum
        })
    }

    fn uncached_tokens(&self, sequence: &Sequence) -> u64 {
        let block_size = self.config.block_size as usize;
        let shareable = sequence.max_shared_blocks(block_size).min(sequence.hashes.len());
        // Asked after every step for everything that waits: only what may have changed is looked up.
        let evictions = self.blocks.evictions();
        let (when, found) = sequence.found_cached.get();
        let known = if when == evictions { found } else { 0 };
        let cached = known + self.blocks.match_prefix(&sequence.hashes[known..shareable]);
        sequence.found_cached.set((evictions, cached));
        (sequence.tokens.len() - cached * block_size) as u64
    }
}
