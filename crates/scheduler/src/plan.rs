//! What the scheduler asks the executor to do, and what it reports afterwards.

use estafette_types::{BlockId, FinishReason, SequenceId, TokenId, Usage};

/// The rows of one step. Empty: nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepPlan {
    /// Decoding sequences first.
    pub sequences: Vec<ScheduledSequence>,
}

impl StepPlan {
    /// Rows of the step.
    pub fn num_tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens.len()).sum()
    }
}

/// The rows of one sequence in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledSequence {
    /// Whose they are.
    pub id: SequenceId,
    /// Position of the first row.
    pub start: u32,
    /// One row each.
    pub tokens: Vec<TokenId>,
    /// All its blocks, in the order of its tokens.
    pub block_table: Vec<BlockId>,
    /// The last row's logits choose the next token.
    pub samples: bool,
    /// What a hand-off carries, the prompt and the output that was given with it, is complete with this step.
    pub ends_prompt: bool,
}

/// Something the sequence's owner is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepEvent {
    /// A token was added to the answer. A stop token is reported like any other.
    Token {
        /// Whose.
        id: SequenceId,
        /// Its place in the answer, from 0.
        index: u32,
        /// The token.
        token: TokenId,
    },
    /// The sequence has ended.
    Finished {
        /// Which.
        id: SequenceId,
        /// Why.
        reason: FinishReason,
        /// What was done for it here.
        usage: Usage,
    },
}
