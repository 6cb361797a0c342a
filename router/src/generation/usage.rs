//! From what each leg did to what the client is billed.

use estafette_types::Usage;

/// What the workers counted for one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LegUsage {
    pub(super) prefill: Option<Usage>,
    pub(super) decode: Option<Usage>,
}

impl LegUsage {
    /// The client's bill: the prompt once, each token of the answer once.
    ///
    /// A decode worker that took the KV over counts no prompt. One that counts a prompt computed it itself, because there
    /// was no hand-off or it failed; then its count is the whole answer's, and what the prefill worker did before was done
    /// twice.
    pub(super) fn billed(&self, prompt_tokens: u64) -> Usage {
        let prefill = self.prefill.unwrap_or_default();
        let decode = self.decode.unwrap_or_default();
        let whole = decode.prompt > 0 || self.prefill.is_none();
        let cached = if whole { decode.cached } else { prefill.cached };
        let twice = if whole { prefill.computed + prefill.recomputed } else { prefill.recomputed };
        Usage {
            prompt: prompt_tokens,
            cached,
            computed: prompt_tokens.saturating_sub(cached),
            recomputed: twice + decode.recomputed,
            generated: decode.generated + if whole { 0 } else { prefill.generated },
        }
    }

    /// Everything the workers did, as they count it.
    pub(super) fn done(&self) -> Usage {
        let mut sum = self.prefill.unwrap_or_default();
        sum += self.decode.unwrap_or_default();
        sum
    }
}

#[cfg(test)]
mod tests;
