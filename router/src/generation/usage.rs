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
    /// twice. A count that was lost with its worker is made up for by what is known: the client has got `delivered` tokens.
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

/// What attempts that failed have cost. The next attempt does their work again, so that it counts as recomputed then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Tokens of all attempts but the last one.
    earlier: u64,
    /// The same with it.
    all: u64,
    /// The client's bill if the last one stays the last.
    billed: Usage,
}

impl Spent {
    /// An attempt has done `done`; if no other follows, the client is billed `billed` for it.
    pub(super) fn failed(&mut self, done: &Usage, billed: Usage) {
        self.earlier = self.all;
        self.all += done.computed + done.recomputed + done.generated;
        self.billed = billed;
    }

    /// The client's bill when no other attempt follows: the work of the last one is what it pays for.
    pub(super) fn bill(&self) -> Usage {
        Usage { recomputed: self.billed.recomputed + self.earlier, ..self.billed }
    }

    /// The client's bill when another attempt has done the rest, for which it would be billed `usage`.
    pub(super) fn bill_with(&self, usage: Usage) -> Usage {
        Usage { recomputed: usage.recomputed + self.all, ..usage }
    }
}

#[cfg(test)]
mod tests;
