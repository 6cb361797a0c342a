//! From what each leg did to what the client is billed.

use estafette_types::Usage;

/// What the workers counted for one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LegUsage {
    /// The prompt was sent to a prefill worker.
    pub(super) disaggregated: bool,
    /// `None` also when its count was lost.
    pub(super) prefill: Option<Usage>,
    /// `None` also when its count was lost.
    pub(super) decode: Option<Usage>,
}

impl LegUsage {
    /// The client's bill: the prompt once, each token of the answer once.
    ///
    /// A decode worker that took the KV over counts no prompt. One that counts a prompt computed it itself, because there
    /// was no hand-off or it failed; then its count is the whole answer's, and what the prefill worker did before was done
    /// twice. A count that was lost with its worker is made up for by what is known: the client has got `delivered` tokens
    /// from these workers.
    pub(super) fn billed(&self, prompt_tokens: u64, delivered: u64) -> Usage {
        let prefill = self.prefill.unwrap_or_default();
        let decode = self.decode.unwrap_or_default();
        let whole = decode.prompt > 0 || !self.disaggregated;
        let cached = if whole { decode.cached } else { prefill.cached };
        let twice = if whole { prefill.computed + prefill.recomputed } else { prefill.recomputed };
        Usage {
            prompt: prompt_tokens,
            cached,
            computed: prompt_tokens.saturating_sub(cached),
            recomputed: twice + decode.recomputed,
            generated: delivered.max(decode.generated + if whole { 0 } else { prefill.generated }),
        }
    }

    /// Everything the workers did, as they count it.
    pub(super) fn done(&self) -> Usage {
        let mut sum = self.prefill.unwrap_or_default();
        sum += self.decode.unwrap_or_default();
        sum
    }
}

/// What attempts that failed have done: tokens that the client has got, which stay, and the rest, which the next attempt does
/// again, so that it counts as recomputed then.
#[derive(Clone, Copy, Debug, Default)]
struct Earlier {
    delivered: u64,
    lost: u64,
}

impl Earlier {
    fn add_to(self, usage: Usage) -> Usage {
        Usage {
            generated: usage.generated + self.delivered,
            recomputed: usage.recomputed + self.lost,
            ..usage
        }
    }
}

/// The attempts that have failed so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// All but the last one.
    before: Earlier,
    /// The same with it.
    all: Earlier,
    /// What the last one alone would be billed if it stays the last.
    billed: Usage,
}

impl Spent {
    /// An attempt has done `done`, of which the client has got `delivered` tokens; for it alone, if no other follows, the
    /// client is billed `billed`.
    pub(super) fn failed(&mut self, done: &Usage, delivered: u64, billed: Usage) {
        self.before = self.all;
        self.all.delivered += delivered;
        // Its counts may be lost, but not what the client has got.
        self.all.lost += done.computed + done.recomputed + done.generated.saturating_sub(delivered);
        self.billed = billed;
    }

    /// The client's bill when no other attempt follows: the work of the last one is what it pays for.
    pub(super) fn bill(&self) -> Usage {
        self.before.add_to(self.billed)
    }

    /// The client's bill when another attempt has done the rest, for which it would be billed `usage`.
    pub(super) fn bill_with(&self, usage: Usage) -> Usage {
        self.all.add_to(usage)
    }
}

#[cfg(test)]
mod tests;
