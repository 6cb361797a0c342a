//! The vector kernels against plain f32, on the real model.

use super::*;
use crate::testing::{STORY, real_model};
use estafette_model::{BatchSequence, Model, ModelConfig, ReferenceBackend, Room};
use estafette_types::BlockId;

/// Enough text to see errors, little enough for the plain backend.
const TEXT: &[TokenId] = STORY.split_at(192).0;

/// Largest difference of a logit, over the text: f16 keys and values, int16 activations.
const ERROR_MAX: f32 = 0.05;
const ERROR_RMS: f64 = 0.005;
/// Of the perplexity, relative.
const PERPLEXITY_ERROR: f64 = 0.001;

fn batch(tokens: &[TokenId]) -> Batch {
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    Batch {
        tokens: tokens.to_vec(),
        slots: positions.clone(),
        positions,
        sequences: vec![BatchSequence {
            rows: 0..tokens.len(),
            start: 0,
            block_table: (0..tokens.len().div_ceil(16) as u32).map(BlockId).collect(),
        }],
        logit_rows: (0..tokens.len()).collect(),
    }
}

/// Logits of every position.
fn logits<B: Backend>(mut backend: B, mut cache: B::Cache, tokens: &[TokenId]) -> Vec<f32> {
    let room = Room { rows: tokens.len(), logit_rows: tokens.len() };
    let file = real_model();
    let config = ModelConfig::from_gguf(&file).unwrap();
    let mut model = Model::load(&file, &config, &mut backend, room).unwrap();
    model.forward(&mut backend, &batch(tokens), &mut cache, &mut |_| {});
    backend.read(model.logits()).to_vec()
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a))).unwrap()
}

/// Of `token` under the softmax of `row`.
fn log_probability(row: &[f32], token: TokenId) -> f64 {
    let max = f64::from(row[largest(row)]);
    let sum: f64 = row.iter().map(|x| (f64::from(*x) - max).exp()).sum();
    f64::from(row[token as usize]) - max - sum.ln()
}

fn perplexity(logits: &[f32], vocab: usize) -> f64 {
    let rows = logits.chunks_exact(vocab).zip(&TEXT[1..]);
    let sum: f64 = rows.map(|(row, next)| log_probability(row, *next)).sum();
    (-sum / (TEXT.len() - 1) as f64).exp()
}

#[test]
fn logits_and_perplexity_are_those_of_plain_f32() {
    let config = ModelConfig::from_gguf(&real_model()).unwrap();
    let (layers, kv_heads) = (config.num_layers, config.kv_heads);
    let layout = KvLayout {
        num_blocks: 12,
        block_size: 16,
        layers: layers as u32,
        kv_heads: kv_heads as u32,
        head_dim: config.head_dim as u32,
    };
    let cache = KvCache::new(layout, false).unwrap();
    let found = logits(CpuBackend::new(Tier::detect(), 2), cache, TEXT);
    let cache = ReferenceBackend.new_cache(layers, 12, 16, kv_heads * config.head_dim);
    let expected = logits(ReferenceBackend, cache, TEXT);

    let vocab = config.vocab_size;
    let errors = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let max = errors.clone().fold(0.0, f32::max);
    let rms = (errors.map(|e| f64::from(e).powi(2)).sum::<f64>() / found.len() as f64).sqrt();
    assert!(max < ERROR_MAX && rms < ERROR_RMS, "largest {max}, root mean square {rms}");
    for (row, exact) in found.chunks_exact(vocab).zip(expected.chunks_exact(vocab)) {
        let best = largest(exact);
        let second = exact.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, x)| *x);
        let margin = exact[best] - second.fold(f32::NEG_INFINITY, f32::max);
        assert!(largest(row) == best || margin < 2.0 * ERROR_MAX, "another choice at {margin}");
    }
    let ratio = perplexity(&found, vocab) / perplexity(&expected, vocab);
    assert!((ratio - 1.0).abs() < PERPLEXITY_ERROR, "perplexity is {ratio} of the reference's");
}
