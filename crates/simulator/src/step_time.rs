//! How long a step takes: the one thing a simulated worker does not do for real.
//!
//! Prefill `base + per_token·n + per_token_pair·n·(p + n/2)` for a chunk of `n` tokens behind `p` that are there, decode
//! `base + per_sequence·b + per_context_token·c` for `b` sequences with `c` tokens of KV together. Where decoding is
//! concave in `b` (mixture of experts) a table replaces the line, and so where a chunk's cost is not linear in `n`.
//!
//! A step with both costs its chunks and what `mixed_ms` says that decode rows add. Without it the step is taken to cost the
//! larger base and the sum of the rest: an assumption, not in the grids the presets were fitted on.
//!
//! Workers that compute on the same cores slow each other down by `sharing`.

use crate::error::SimulateError;
use serde::{Deserialize, Serialize};

/// A worker's model and hardware. The format of `--step-times FILE` too; all times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTimes {
    /// What was measured or modelled.
    pub name: String,
    /// Of prompt chunks.
    pub prefill_ms: PrefillTime,
    /// Of decode rows.
    pub decode_ms: DecodeTime,
    /// Of decode rows beside prompt chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed_ms: Option<MixedTime>,
    /// Of workers on the same cores; without it they take turns at no cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
    /// Where the figures hold.
    pub valid: Valid,
    /// Bytes of KV of one token, all layers.
    pub kv_bytes_per_token: u64,
    /// Tokens of KV that a worker's memory holds.
    pub kv_tokens: u64,
}

/// Milliseconds of prompt chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefillTime {
    /// Of any step.
    pub base: f64,
    /// For each token.
    pub per_token: f64,
    /// For each pair of a token and one before it.
    pub per_token_pair: f64,
    /// `[tokens of all chunks, milliseconds without pairs]`, ascending; replaces `base` and `per_token`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table: Vec<(u32, f64)>,
}

/// Milliseconds that decode rows add to a step with prompt chunks, besides `per_context_token`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedTime {
    /// However many they are.
    pub base: f64,
    /// For each sequence.
    pub per_sequence: f64,
}

/// How many times longer a step takes while another worker computes on the same cores; each further one adds as much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharing {
    /// A step with prompt chunks.
    pub prompts: f64,
    /// A step of decode rows alone.
    pub decodes: f64,
}

/// Milliseconds of decode rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeTime {
    /// Of any step.
    pub base: f64,
    /// For each sequence.
    pub per_sequence: f64,
    /// For each token of their KV.
    pub per_context_token: f64,
    /// `[sequences, milliseconds]` at `table_context` tokens each, ascending; replaces `base` and `per_sequence`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table: Vec<(u32, f64)>,
    /// See `table`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub table_context: u32,
}

/// The largest values that were looked at; a step beyond one of them is counted as extrapolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Valid {
    /// Tokens of a chunk.
    pub chunk_tokens: u32,
    /// Tokens in front of a chunk.
    pub cached_tokens: u32,
    /// Decoding sequences.
    pub sequences: u32,
    /// Tokens of KV of one of them, on average.
    pub context_tokens: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What a step does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepWork {
    /// `(new tokens, tokens before them)` of each prompt chunk.
    pub chunks: Vec<(u32, u32)>,
    /// Decoding sequences.
    pub sequences: u32,
    /// Tokens of KV of those, together.
    pub context_tokens: u64,
}

impl StepWork {
    /// New tokens of all chunks.
    pub(crate) fn chunk_tokens(&self) -> u32 {
        self.chunks.iter().map(|(n, _)| n).sum()
    }

    /// Pairs of a new token and one before it.
    pub(crate) fn pairs(&self) -> f64 {
        let of = |&(n, p): &(u32, u32)| f64::from(n) * (f64::from(p) + f64::from(n) / 2.0);
        self.chunks.iter().map(of).sum()
    }
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// Rounded up; at least 1.
    pub micros: u64,
    /// What each other worker that computes on the same cores adds, in thousandths of `micros`.
    pub beside_permille: u64,
    /// It lies outside of where the figures hold.
    pub extrapolated: bool,
}

impl StepTimes {
    /// Reads the format of `--step-times`.
    ///
    /// # Errors
    /// When it is not that format, or a figure cannot be.
    pub fn from_json(text: &str) -> Result<Self, SimulateError> {
        let times: Self =
            serde_json::from_str(text).map_err(|e| SimulateError::StepTimes(e.to_string()))?;
        times.check().map_err(|problem| SimulateError::StepTimes(problem.into()))?;
        Ok(times)
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let (p, d) = (&self.prefill_ms, &self.decode_ms);
        let mixed = self.mixed_ms.map_or([0.0; 2], |m| [m.base, m.per_sequence]);
        let figures =
            [p.base, p.per_token, p.per_token_pair, d.base, d.per_sequence, d.per_context_token];
        let bad = |ms: &f64| !ms.is_finite() || *ms < 0.0;
        let tables = p.table.iter().chain(&d.table).map(|(_, ms)| ms);
        if figures.iter().chain(&mixed).chain(tables).any(bad) {
            return Err("times must be finite and not negative");
        }
        for table in [&p.table, &d.table] {
            if table.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                return Err("`table` must be ascending in its first column");
            }
            if table.len() == 1 {
                return Err("`table` needs two rows");
            }
        }
        if !d.table.is_empty() && d.table_context == 0 {
            return Err("`table` of `decode_ms` needs `table_context`");
        }
        if self.prompts(1, 0.0) <= 0.0 || self.decode(1, 1) <= 0.0 {
            return Err("a step must take time");
        }
        let sharing = self.sharing.map_or([1.0; 2], |s| [s.prompts, s.decodes]);
        if sharing.iter().any(|times| !(1.0..=1000.0).contains(times)) {
            return Err("`sharing` must be at least 1");
        }
        if self.kv_bytes_per_token == 0 || self.kv_tokens == 0 {
            return Err("`kv_bytes_per_token` and `kv_tokens` must be at least 1");
        }
        Ok(())
    }

    /// How long a step takes.
    pub fn time(&self, work: &StepWork) -> StepTime {
        StepTime {
            micros: micros(self.ms(work)).max(1),
            beside_permille: self.beside_permille(work),
            extrapolated: self.is_beyond(work),
        }
    }

    pub(crate) fn ms(&self, work: &StepWork) -> f64 {
        let decode = self.decode(work.sequences, work.context_tokens);
        if work.chunks.is_empty() {
            return decode;
        }
        let prompts = self.prompts(work.chunk_tokens(), work.pairs());
        match (work.sequences, self.mixed_ms) {
            (0, _) => prompts,
            (sequences, Some(mixed)) => {
                let context = self.decode_ms.per_context_token * work.context_tokens as f64;
                prompts + mixed.base + mixed.per_sequence * f64::from(sequences) + context
            }
            (_, None) => {
                let (base, prompt_base) = (self.decode_base(), self.prompt_base());
                prompt_base.max(base) + (prompts - prompt_base) + (decode - base)
            }
        }
    }

    /// Two workers that only take turns get half of the cores each.
    fn beside_permille(&self, work: &StepWork) -> u64 {
        let of = |s: Sharing| if work.chunks.is_empty() { s.decodes } else { s.prompts };
        (1000.0 * (self.sharing.map_or(2.0, of) - 1.0)).round() as u64
    }

    /// How long `tokens` prompt tokens take alone on an idle worker in chunks of `chunk`, in microseconds.
    pub fn isolated_micros(&self, tokens: u32, chunk: u32) -> u64 {
        let mut done = 0;
        let mut sum = 0;
        while done < tokens {
            let n = chunk.max(1).min(tokens - done);
            let work = StepWork { chunks: vec![(n, done)], ..StepWork::default() };
            sum = u64::saturating_add(sum, self.time(&work).micros);
            done += n;
        }
        sum
    }

    fn prompts(&self, tokens: u32, pairs: f64) -> f64 {
        let p = &self.prefill_ms;
        let tokens = f64::from(tokens);
        let rest = p.per_token_pair * pairs;
        if p.table.is_empty() {
            p.base + p.per_token * tokens + rest
        } else {
            interpolate(&p.table, tokens) + rest
        }
    }

    fn prompt_base(&self) -> f64 {
        self.prefill_ms.table.first().map_or(self.prefill_ms.base, |(_, ms)| *ms)
    }

    fn decode_base(&self) -> f64 {
        self.decode_ms.table.first().map_or(self.decode_ms.base, |(_, ms)| *ms)
    }

    fn decode(&self, sequences: u32, context: u64) -> f64 {
        let d = &self.decode_ms;
        let (n, context) = (f64::from(sequences), context as f64);
        if d.table.is_empty() {
            return d.base + d.per_sequence * n + d.per_context_token * context;
        }
        let shift = d.per_context_token * (context - n * f64::from(d.table_context));
        (interpolate(&d.table, n) + shift).max(0.0)
    }

    fn is_beyond(&self, work: &StepWork) -> bool {
        let v = &self.valid;
        let chunk = |&(n, p): &(u32, u32)| n > v.chunk_tokens || p > v.cached_tokens;
        let mean = work.context_tokens / u64::from(work.sequences.max(1));
        work.chunks.iter().any(chunk)
            || work.sequences > v.sequences
            || mean > u64::from(v.context_tokens)
    }
}

/// Linear between the rows, and on in the direction of the last two beyond them.
fn interpolate(table: &[(u32, f64)], x: f64) -> f64 {
    let upper =
        table.iter().position(|(row, _)| f64::from(*row) >= x).unwrap_or(table.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (table[upper - 1], table[upper]);
    let (x0, x1) = (f64::from(x0), f64::from(x1));
    if x <= x0 { y0 } else { y0 + (y1 - y0) * (x - x0) / (x1 - x0) }
}

/// Milliseconds as whole microseconds, rounded up.
pub(crate) fn micros(ms: f64) -> u64 {
    (ms * 1000.0).ceil() as u64
}

#[cfg(test)]
mod tests;
