//! A request inside the engine.

use estafette_kv_cache::BlockTable;
use estafette_types::{BlockHash, FinishReason, HashSeed, Limits, SequenceId, TokenId, Usage};
use std::cell::Cell;

/// Where a sequence's prompt is computed and where its answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Prompt and answer here.
    Local,
    /// The prompt and one token here; then the blocks are held until the hand-off lets go of them.
    PrefillOnly,
    /// The prompt's blocks arrive by a hand-off; nothing runs until they are adopted.
    Remote,
}

/// What a sequence is made of.
#[derive(Clone, Debug)]
pub struct NewSequence {
    /// Its name in this engine.
    pub id: SequenceId,
    /// At least one token.
    pub prompt: Vec<TokenId>,
    /// The beginning of the answer, when it comes from elsewhere: computed with the prompt, not reported again.
    pub output: Vec<TokenId>,
    /// Of the full blocks of prompt and output.
    pub hashes: Vec<BlockHash>,
    /// The parent of the first block, for blocks that generated tokens complete.
    pub seed: HashSeed,
    /// When it ends.
    pub limits: Limits,
    /// Who computes what.
    pub mode: Mode,
}

/// Where a sequence is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// In the queue, without blocks.
    Waiting,
    /// Waits for a hand-off: with blocks once they are reserved.
    AwaitingKv,
    /// In the running batch.
    Running,
}

/// A request inside the engine: its tokens, its blocks and what was done for it.
#[derive(Debug)]
pub struct Sequence {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Of prompt and output together: what a hand-off carries.
    pub(crate) given_len: usize,
    /// Of every full block of `tokens` that is known: the given ones, then chained as blocks fill.
    pub(crate) hashes: Vec<BlockHash>,
    pub(crate) seed: HashSeed,
    pub(crate) limits: Limits,
    pub(crate) mode: Mode,
    pub(crate) status: Status,
    pub(crate) table: BlockTable,
    /// Tokens whose KV is in the blocks.
    pub(crate) num_computed: usize,
    /// Full blocks that were offered for sharing.
    pub(crate) num_published: usize,
    /// The furthest `num_computed` ever was: what lies below and is computed again is recomputed.
    pub(crate) high_water: usize,
    pub(crate) usage: Usage,
    /// Index in the answer of the next token to report.
    pub(crate) next_index: u32,
    /// What the load record found: after so many evictions so many of its first blocks were cached.
    pub(crate) found_cached: Cell<(u64, usize)>,
}

impl Sequence {
    pub(crate) fn new(new: NewSequence) -> Self {
        let status = if new.mode == Mode::Remote { Status::AwaitingKv } else { Status::Waiting };
        let prompt_len = new.prompt.len();
        let next_index = u32::try_from(new.output.len()).unwrap_or(u32::MAX);
        let mut tokens = new.prompt;
        tokens.extend(new.output);
        Self {
            prompt_len,
            given_len: tokens.len(),
            tokens,
            hashes: new.hashes,
            seed: new.seed,
            limits: new.limits,
            mode: new.mode,
            status,
            table: BlockTable::default(),
            num_computed: 0,
            num_published: 0,
            high_water: 0,
            usage: Usage::default(),
            next_index,
            found_cached: Cell::default(),
        }
    }

    /// Prompt and answer so far.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// How many of the tokens are the prompt.
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Tokens whose KV is still to be computed; the last one's gives the next token.
    pub(crate) fn num_pending(&self) -> usize {
        self.tokens.len() - self.num_computed
    }

    /// Its KV is arriving, into blocks that it has.
    pub(crate) fn has_reserved(&self) -> bool {
        self.status == Status::AwaitingKv && !self.table.blocks().is_empty()
    }

    /// Only the newest token is to be computed, and it is one of the answer.
    pub(crate) fn is_decoding(&self) -> bool {
        self.num_pending() == 1 && self.tokens.len() > self.prompt_len
    }

    /// At least one token is always computed, so the last one is never taken from the cache.
    pub(crate) fn max_shared_blocks(&self, block_size: usize) -> usize {
        (self.tokens.len() - 1) / block_size
    }

    /// The prefix up to `cached` tokens was found in the cache.
    pub(crate) fn start_from_cache(&mut self, cached: usize) {
        self.num_computed = cached;
        let of_prompt = cached.min(self.prompt_len);
        if of_prompt > self.high_water {
            self.usage.cached += (of_prompt - self.high_water) as u64;
            self.high_water = of_prompt;
        }
        self.usage.prompt = self.usage.cached + self.usage.computed;
    }

    /// KV tokens that the next `count` rows attend to, each to all before it and to itself.
    pub(crate) fn attended_by(&self, count: usize) -> u64 {
        let (start, count) = (self.num_computed as u64, count as u64);
        count * start + count * (count + 1) / 2
    }

    /// `count` more tokens were computed.
    pub(crate) fn count_computed(&mut self, count: usize) {
        let (start, end) = (self.num_computed, self.num_computed + count);
        self.num_computed = end;
        // Below the high-water mark everything was there before; above it, prompt tokens are computed for the
        // first time, and generated tokens are nobody's prompt. Of a given output all but the last token were
        // computed where it was generated.
        let here = end.min(self.high_water).saturating_sub(start);
        let from = start.max(self.high_water).max(self.prompt_len);
        let elsewhere = end.min(self.given_len - 1).saturating_sub(from);
        self.usage.recomputed += (here + elsewhere) as u64;
        let fresh = end.min(self.prompt_len).saturating_sub(start.max(self.high_water));
        self.usage.computed += fresh as u64;
        self.usage.prompt = self.usage.cached + self.usage.computed;
        self.high_water = self.high_water.max(end);
    }

    /// Hashes for all full blocks of which every token is computed.
    pub(crate) fn extend_hashes(&mut self, block_size: usize) {
        let full = self.num_computed / block_size;
        while self.hashes.len() < full {
            let from = self.hashes.len() * block_size;
            let parent = self.hashes.last().copied().unwrap_or(self.seed.0);
            self.hashes.push(parent.child(&self.tokens[from..from + block_size]));
        }
    }

    /// Appends a token; why the sequence ends with it, if it does.
    pub(crate) fn push_token(&mut self, token: TokenId, max_len: usize) -> Option<FinishReason> {
        self.tokens.push(token);
        let generated = self.tokens.len() - self.prompt_len;
        if !self.limits.ignore_eos && self.limits.stop_token_ids.contains(&token) {
            Some(FinishReason::Stop)
        } else if generated >= self.limits.max_tokens as usize || self.tokens.len() >= max_len {
            Some(FinishReason::Length)
        } else {
            None
        }
    }
}
