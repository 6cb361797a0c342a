//! Built-in step times.
//!
//! AIC-calibrated, never measured: AIConfigurator 0.12.0 composes measured operator times, and these are relative
//! least-squares fits of its grid (prompt chunks of 128–32,768 tokens behind 0–65,536, batches of 1–256 at contexts of
//! 512–32,768). The decode tables are the grid itself at a context of 2,048, because a mixture of experts is concave in
//! the batch: a line is 20 % too high at both ends. KV capacity is 90 % of the memory less the weights, an estimate.

use crate::error::SimulateError;
use crate::step_time::{DecodeTime, PrefillTime, StepTimes, Valid};

/// One row: name, prefill base/token/pair, decode base/sequence/context token (ms), KV bytes per token, KV tokens, table.
type Row = (&'static str, [f64; 3], [f64; 3], u64, u64, &'static [(u32, f64)]);

/// The preset that is used when none is named.
pub const DEFAULT_PRESET: &str = "llama-70b-fp8-h200-tp4";

const DEEPSEEK_SGLANG: &[(u32, f64)] = &[
    (1, 10.9),
    (4, 11.7),
    (8, 16.0),
    (16, 18.9),
    (32, 23.2),
    (64, 29.6),
    (128, 34.2),
    (256, 42.7),
];
const DEEPSEEK_VLLM: &[(u32, f64)] = &[
    (1, 14.1),
    (4, 15.7),
    (8, 19.1),
    (16, 23.2),
    (32, 26.3),
    (64, 34.2),
    (128, 40.1),
    (256, 50.1),
];
const DEEPSEEK_TRTLLM: &[(u32, f64)] =
    &[(1, 7.0), (4, 10.5), (8, 14.4), (16, 17.2), (32, 22.6), (64, 28.2), (128, 33.8), (256, 43.9)];
const DEEPSEEK_TRTLLM_DP: &[(u32, f64)] = &[
    (1, 18.2),
    (4, 24.0),
    (8, 28.4),
    (16, 32.2),
    (32, 38.3),
    (64, 48.5),
    (128, 58.6),
    (256, 88.9),
];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("llama-8b-h100-tp1",          [4.25, 0.01825, 8.167e-7],  [6.41, 0.01111, 4.183e-5],  131_072, 427_000, &[]),
    ("llama-70b-bf16-h100-tp4",    [10.57, 0.05815, 1.016e-6], [15.18, 0.03247, 2.646e-5], 327_680, 448_000, &[]),
    ("llama-70b-fp8-h100-tp4",     [8.55, 0.04475, 1.054e-6],  [10.31, 0.03661, 1.450e-5], 327_680, 662_000, &[]),
    ("llama-70b-fp8-h200-tp4",     [7.18, 0.04151, 1.084e-6],  [8.76, 0.03622, 1.318e-5],  327_680, 1_484_800, &[]),
    ("qwen3-32b-h200-tp2",         [7.99, 0.04627, 1.679e-6],  [10.69, 0.02500, 2.986e-5], 262_144, 720_000, &[]),
    ("deepseek-v3-h200-tp8-sglang", [24.85, 0.03798, 3.464e-6], [12.80, 0.11491, 1.732e-5], 70_272, 611_000, DEEPSEEK_SGLANG),
    ("deepseek-v3-h200-tp8-vllm",  [35.85, 0.04794, 1.008e-6], [16.57, 0.12992, 1.693e-5], 70_272, 611_000, DEEPSEEK_VLLM),
    ("deepseek-v3-h200-tp8-trtllm", [27.34, 0.03144, 1.298e-6], [9.39, 0.14331, 1.784e-5], 70_272, 611_000, DEEPSEEK_TRTLLM),
    ("deepseek-v3-h200-dp8-trtllm", [26.94, 0.18324, 1.127e-5], [22.29, 0.24389, 2.794e-5], 70_272, 611_000, DEEPSEEK_TRTLLM_DP),
];

/// The names of all presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.0)
}

/// The preset called `name`.
///
/// # Errors
/// When there is none; the message lists those there are.
pub fn preset(name: &str) -> Result<StepTimes, SimulateError> {
    let found = ROWS.iter().find(|row| row.0 == name);
    found.map(step_times).ok_or_else(|| SimulateError::UnknownName {
        what: "preset",
        name: name.into(),
        known: preset_names().collect::<Vec<_>>().join(", "),
    })
}

fn step_times(row: &Row) -> StepTimes {
    let (
        name,
        [base, per_token, per_token_pair],
        [d, e1, e2],
        kv_bytes_per_token,
        kv_tokens,
        table,
    ) = *row;
    StepTimes {
        name: name.into(),
        prefill_ms: PrefillTime { base, per_token, per_token_pair, table: Vec::new() },
        decode_ms: DecodeTime {
            base: d,
            per_sequence: e1,
            per_context_token: e2,
            table: table.to_vec(),
            table_context: if table.is_empty() { 0 } else { 2048 },
        },
        mixed_ms: None,
        sharing: None,
        valid: Valid {
            chunk_tokens: 32_768,
            cached_tokens: 65_536,
            sequences: 256,
            context_tokens: 32_768,
        },
        kv_bytes_per_token,
        kv_tokens,
    }
}
