//! Admission, the step's plan, preemption, and what follows from a step's tokens.

use crate::handoff::Held;
use crate::plan::{ScheduledSequence, StepEvent, StepPlan};
use crate::sequence::{Mode, NewSequence, Sequence, Status};
use estafette_kv_cache::{BlockManager, IntegrityError};
use estafette_types::{BlockHash, FinishReason, KvEvent, SequenceId, TokenId, Usage};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The limits that the scheduler keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Tokens in a block.
    pub block_size: u32,
    /// Blocks of the pool.
    pub num_blocks: u32,
    /// The most rows in one step.
    pub max_num_batched_tokens: u32,
    /// The most sequences that run at once, or have a place because their KV is arriving.
    pub max_num_seqs: u32,
    /// The most sequences that wait, for their turn or for a hand-off.
    pub max_waiting: u32,
    /// The longest sequence, prompt and answer together.
    pub max_model_len: u32,
}

/// Why a sequence was not taken in. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddError {
    /// Every place in the waiting queue is taken.
    #[error("all {max_waiting} places in the queue are taken")]
    QueueFull {
        /// Places there are.
        max_waiting: u32,
    },
    /// Prompt and output leave no room for a further token.
    #[error("{given} tokens of prompt and answer leave no room in a context of {max_model_len}")]
    TooLong {
        /// Their tokens.
        given: usize,
        /// What fits.
        max_model_len: u32,
    },
    /// More blocks than the whole pool has.
    #[error("a sequence of {tokens} tokens does not fit a pool of {pool_tokens}")]
    NeverFits {
        /// Prompt, output and one token.
        tokens: usize,
        /// Tokens of the pool.
        pool_tokens: u64,
    },
    /// There is nothing to compute.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The answer is as long as it may be before anything is done.
    #[error("an answer of {max_tokens} tokens has {output} already")]
    Complete {
        /// Tokens that are there.
        output: usize,
        /// Tokens that were asked for.
        max_tokens: u32,
    },
}

/// Sequences in their queues, over the pool's blocks.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: SchedulerConfig,
    /// Of a sequence: what the model allows, and what the pool holds when it has it alone.
    pub(crate) longest: usize,
    pub(crate) blocks: BlockManager,
    pub(crate) sequences: BTreeMap<SequenceId, Sequence>,
    /// In the order in which they will run: oldest first, wherever they come from. Ids grow with time.
    pub(crate) waiting: BTreeSet<SequenceId>,
    /// Oldest first.
    pub(crate) running: Vec<SequenceId>,
    /// Blocks of finished prompts that a hand-off still reads.
    pub(crate) held: BTreeMap<SequenceId, Held>,
    pub(crate) done: Usage,
    /// See [`estafette_types::LoadRecord`].
    pub(crate) prefill_attended: u64,
    pub(crate) steps: u64,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    pub fn new(config: SchedulerConfig) -> Self {
        let pool_tokens = config.num_blocks as usize * config.block_size as usize;
        Self {
            config,
            longest: pool_tokens.min(config.max_model_len as usize),
            blocks: BlockManager::new(config.num_blocks, config.block_size),
            sequences: BTreeMap::new(),
            waiting: BTreeSet::new(),
            running: Vec::new(),
            held: BTreeMap::new(),
            done: Usage::default(),
            prefill_attended: 0,
            steps: 0,
        }
    }

    /// Takes a sequence in.
    ///
    /// # Errors
    /// When it can never run, or the queue is full.
    pub fn add(&mut self, new: NewSequence) -> Result<(), AddError> {
        self.check(&new)?;
        let waiting = self.sequences.len() - self.running.len();
        if waiting >= self.config.max_waiting as usize {
            return Err(AddError::QueueFull { max_waiting: self.config.max_waiting });
        }
        let id = new.id;
        let sequence = Sequence::new(new);
        if sequence.status == Status::Waiting {
            self.waiting.insert(id);
        }
        self.sequences.insert(id, sequence);
        Ok(())
    }

    /// Whether a sequence can run at all.
    fn check(&self, new: &NewSequence) -> Result<(), AddError> {
        if new.prompt.is_empty() {
            return Err(AddError::EmptyPrompt);
        }
        let (output, max_tokens) = (new.output.len(), new.limits.max_tokens);
        if output > 0 && output >= max_tokens as usize {
            return Err(AddError::Complete { output, max_tokens });
        }
        let (given, max_model_len) = (new.prompt.len() + output, self.config.max_model_len);
        if given >= max_model_len as usize {
            return Err(AddError::TooLong { given, max_model_len });
        }
        let pool_tokens = self.blocks.total_blocks() * u64::from(self.config.block_size);
        if given as u64 + 1 > pool_tokens {
            return Err(AddError::NeverFits { tokens: given + 1, pool_tokens });
        }
        Ok(())
    }

    /// Ends a sequence; what was done for it, or `None` when there is no such sequence. Its blocks are free at
    /// once, unless a hand-off still reads or writes them: then the caller releases them.
    pub fn cancel(&mut self, id: SequenceId) -> Option<Usage> {
        let sequence = self.remove(id)?;
        Some(self.retire(sequence))
    }

    /// Counts a sequence that has ended and gives its blocks back.
    fn retire(&mut self, mut sequence: Sequence) -> Usage {
        let table = std::mem::take(&mut sequence.table);
        self.blocks.release(table);
        self.done += sequence.usage;
        sequence.usage
    }

    pub(crate) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let sequence = self.sequences.remove(&id)?;
        match sequence.status {
            Status::Waiting => drop(self.waiting.remove(&id)),
            Status::Running => self.running.retain(|other| *other != id),
            Status::AwaitingKv => {}
        }
        Some(sequence)
    }

    /// Decides what runs next.
    pub fn schedule(&mut self) -> StepPlan {
        let mut plan = StepPlan::default();
        let mut budget = self.config.max_num_batched_tokens as usize;
        self.schedule_running(&mut plan, &mut budget);
        self.admit(&mut plan, &mut budget);
        plan
    }

    /// Decode rows of every running sequence first, then chunks of the prompts among them, oldest first.
    fn schedule_running(&mut self, plan: &mut StepPlan, budget: &mut usize) {
        for decoding in [true, false] {
            let mut i = 0;
            while let Some(&id) = self.running.get(i) {
                i += 1;
                if self.sequences[&id].is_decoding() != decoding || *budget == 0 {
                    continue;
                }
                if !self.make_room(id, plan, budget) {
                    continue;
                }
                *budget -= self.push_rows(id, plan, *budget);
            }
        }
    }

    /// Grows the table of `id` to hold its tokens, preempting the youngest sequences while blocks are missing.
    /// False: `id` itself was the youngest.
    fn make_room(&mut self, id: SequenceId, plan: &mut StepPlan, budget: &mut usize) -> bool {
        loop {
            let Some(sequence) = self.sequences.get_mut(&id) else { return false };
            let tokens = sequence.tokens.len();
            if self.blocks.grow(&mut sequence.table, tokens).is_ok() {
                return true;
            }
            let Some(&youngest) = self.running.last() else { return false };
            if let Some(i) = plan.sequences.iter().position(|s| s.id == youngest) {
                *budget += plan.sequences.remove(i).tokens.len();
            }
            self.preempt(youngest);
            if youngest == id {
                return false;
            }
        }
    }

    /// Takes the blocks away and puts the sequence back into the queue. What it had computed may still be in
    /// the cache when it comes back.
    fn preempt(&mut self, id: SequenceId) {
        self.running.retain(|other| *other != id);
        if let Some(sequence) = self.sequences.get_mut(&id) {
            let table = std::mem::take(&mut sequence.table);
            sequence.num_computed = 0;
            sequence.num_published = 0;
            sequence.status = Status::Waiting;
            self.blocks.release(table);
            self.waiting.insert(id);
        }
    }

    /// Moves sequences from the queue into the batch while there are rows, places and blocks.
    fn admit(&mut self, plan: &mut StepPlan, budget: &mut usize) {
        let mut places = self.free_places();
        while *budget > 0 && places > 0 {
            let Some(&id) = self.waiting.first() else { return };
            let Some(sequence) = self.sequences.get_mut(&id) else { return };
            let block_size = self.config.block_size as usize;
            let max_shared = sequence.max_shared_blocks(block_size);
            let tokens = sequence.tokens.len();
            let Ok((table, shared)) = self.blocks.allocate(&sequence.hashes, max_shared, tokens)
            else {
                return;
            };
            sequence.table = table;
            sequence.num_published = shared;
            sequence.status = Status::Running;
            sequence.start_from_cache(shared * block_size);
            self.waiting.remove(&id);
            self.start_running(id);
            places -= 1;
            *budget -= self.push_rows(id, plan, *budget);
        }
    }

    /// Places in the batch that nobody has: neither a running sequence nor one whose KV is arriving.
    pub(crate) fn free_places(&self) -> usize {
        let reserved = self.sequences.values().filter(|sequence| sequence.has_reserved()).count();
        (self.config.max_num_seqs as usize).saturating_sub(self.running.len() + reserved)
    }

    /// Puts `id` into the batch, behind those that are older.
    pub(crate) fn start_running(&mut self, id: SequenceId) {
        let place = self.running.partition_point(|other| *other < id);
        self.running.insert(place, id);
    }

    /// Adds the next rows of `id` to the plan, `budget` at most; how many.
    fn push_rows(&self, id: SequenceId, plan: &mut StepPlan, budget: usize) -> usize {
        let sequence = &self.sequences[&id];
        let start = sequence.num_computed;
        let end = sequence.tokens.len().min(start + budget);
        plan.sequences.push(ScheduledSequence {
            id,
            start: start as u32,
            tokens: sequence.tokens[start..end].to_vec(),
            block_table: sequence.table.blocks().to_vec(),
            samples: end == sequence.tokens.len(),
            ends_prompt: end >= sequence.given_len && start < sequence.given_len,
        });
        end - start
    }

    /// Takes the results of a step: `sampled` has one token for each sequence of the plan that samples.
    pub fn complete(
        &mut self,
        plan: &StepPlan,
        sampled: &[(SequenceId, TokenId)],
    ) -> Vec<StepEvent> {
        self.steps += 1;
        let mut events = Vec::new();
        for scheduled in &plan.sequences {
            if let Some(sequence) = self.sequences.get_mut(&scheduled.id) {
                if !sequence.is_decoding() {
                    self.prefill_attended += sequence.attended_by(scheduled.tokens.len());
                }
                sequence.count_computed(scheduled.tokens.len());
                self.publish(scheduled.id);
            }
        }
        for &(id, token) in sampled {
            self.append(id, token, &mut events);
        }
        events
    }

    /// Offers every block that has become full for sharing.
    pub(crate) fn publish(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        sequence.extend_hashes(self.config.block_size as usize);
        let full = sequence.num_computed / self.config.block_size as usize;
        for index in sequence.num_published..full {
            self.blocks.publish(&sequence.table, index, sequence.hashes[index]);
        }
        sequence.num_published = full;
    }

    /// A token was chosen for `id`.
    fn append(&mut self, id: SequenceId, token: TokenId, events: &mut Vec<StepEvent>) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        sequence.usage.generated += 1;
        let index = sequence.next_index;
        sequence.next_index += 1;
        events.push(StepEvent::Token { id, index, token });
        let ended = sequence.push_token(token, self.longest);
        let ended = match sequence.mode {
            Mode::PrefillOnly => ended.or(Some(FinishReason::Length)),
            Mode::Local | Mode::Remote => ended,
        };
        if let Some(reason) = ended {
            events.extend(self.finish(id, reason));
        }
    }

    /// Ends a sequence in the regular way. The blocks of a prefilled prompt are held for the hand-off.
    pub(crate) fn finish(&mut self, id: SequenceId, reason: FinishReason) -> Option<StepEvent> {
        let mut sequence = self.remove(id)?;
        if sequence.mode == Mode::PrefillOnly {
            self.held.insert(id, Held::read(std::mem::take(&mut sequence.table)));
        }
        let usage = self.retire(sequence);
        Some(StepEvent::Finished { id, reason, usage })
    }

    /// The sequence `id`, while it has not ended.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// The sequence that is admitted next, when there is room for it.
    pub fn next_waiting(&self) -> Option<SequenceId> {
        self.waiting.first().copied()
    }

    /// Whether no sequence is known and no block is held.
    pub fn is_idle(&self) -> bool {
        self.sequences.is_empty() && self.held.is_empty()
    }

    /// Changes of the prefix cache since the last call.
    pub fn take_events(&mut self) -> Vec<KvEvent> {
        self.blocks.take_events()
    }

    /// Every hash that can be shared, sorted.
    pub fn cached_hashes(&self) -> Vec<BlockHash> {
        self.blocks.cached_hashes()
    }

    /// Checks that every block is where the sequences say.
    ///
    /// # Errors
    /// The first block that is not.
    pub fn check_integrity(&self) -> Result<(), IntegrityError> {
        let tables = self
            .sequences
            .values()
            .map(|s| &s.table)
            .chain(self.held.values().map(|held| &held.table));
        self.blocks.check_integrity(tables)
    }
}

#[cfg(test)]
mod tests;
