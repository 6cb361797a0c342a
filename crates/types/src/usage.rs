//! Token counts of one sequence, counted once by the worker that did the work.

/// Integers only: what the client is billed equals what the workers did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt. `prompt = cached + computed`.
    pub prompt: u64,
    /// Prompt tokens whose KV was found in the prefix cache.
    pub cached: u64,
    /// Prompt tokens whose KV was computed for this request, each counted once.
    pub computed: u64,
    /// Tokens computed again after a preemption or a failed hand-off; in no other count.
    pub recomputed: u64,
    /// Tokens sampled for the answer, the stop token included.
    pub generated: u64,
}

impl Usage {
    /// `prompt = cached + computed`: true for every finished sequence.
    pub fn is_balanced(&self) -> bool {
        self.prompt == self.cached + self.computed
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.computed += other.computed;
        self.recomputed += other.recomputed;
        self.generated += other.generated;
    }
}
