use super::*;
use crate::backend::BatchSequence;
use crate::reference::ReferenceBackend;
use estafette_gguf::TensorType;
use estafette_gguf::tiny::{tiny_llama, tiny_llama_with};
use estafette_types::BlockId;

/// Logits of every position of `tokens`, run in chunks over these blocks of 16.
fn logits(tokens: &[u32], chunks: &[usize], blocks: &[u32]) -> Vec<Vec<f32>> {
    let file = GgufFile::from_bytes(tiny_llama(7)).unwrap();
    let config = ModelConfig::from_gguf(&file).unwrap();
    let mut backend = ReferenceBackend;
    let mut model =
        Llama::load(&file, &config, &mut backend, Room { rows: 64, logit_rows: 64 }).unwrap();
    let mut cache = backend.new_cache(2, 8, 16, 32);
    let mut all = Vec::new();
    let mut start = 0;
    for &count in chunks {
        let positions: Vec<u32> = (start..start + count).map(|p| p as u32).collect();
        let batch = Batch {
            tokens: tokens[start..start + count].to_vec(),
            slots: positions.iter().map(|p| blocks[*p as usize / 16] * 16 + p % 16).collect(),
            positions,
            sequences: vec![BatchSequence {
                rows: 0..count,
                start: start as u32,
                block_table: blocks.iter().map(|b| BlockId(*b)).collect(),
            }],
            logit_rows: (0..count).collect(),
        };
        let mut layers = Vec::new();
        model.forward(&mut backend, &batch, &mut cache, &mut |layer| layers.push(layer));
        assert_eq!(layers, [0, 1]);
        all.extend(backend.read(model.logits()).chunks_exact(258).map(<[f32]>::to_vec));
        start += count;
    }
    all
}

#[test]
fn chunks_and_blocks_cannot_be_told_from_the_logits() {
    let tokens: Vec<u32> = (0..50).map(|i| i * 5 % 258).collect();
    let whole = logits(&tokens, &[50], &[0, 1, 2, 3]);
    assert_eq!(logits(&tokens, &[1; 50], &[5, 2, 7, 0]), whole);
    assert_eq!(logits(&tokens, &[7, 16, 27], &[3, 1, 0, 6]), whole);
    assert!(whole.iter().flatten().all(|x| x.is_finite()));
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let file = GgufFile::from_bytes(tiny_llama(1)).unwrap();
    let error = |name, rows| Tensors::new(&file).get(name, rows, 64).unwrap_err().to_string();
    assert_eq!(error("blk.9.attn_q.weight", 64), "tensor `blk.9.attn_q.weight` is missing");
    assert_eq!(
        error("token_embd.weight", 300),
        "tensor `token_embd.weight`: is 258 × 64, not 300 × 64"
    );
}

/// Loads a tiny model that has one more tensor.
fn load_with(name: &str, values: &[f32]) -> Result<Llama<ReferenceBackend>, String> {
    let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensor = (name, &[values.len() as u64][..], TensorType::F32, data);
    let file = GgufFile::from_bytes(tiny_llama_with(1, &[], &[tensor])).unwrap();
    let config = ModelConfig::from_gguf(&file).unwrap();
    let room = Room { rows: 1, logit_rows: 1 };
    Llama::load(&file, &config, &mut ReferenceBackend, room).map_err(|error| error.to_string())
}

#[test]
fn a_tensor_that_is_not_computed_with_is_refused() {
    for name in
        ["blk.0.attn_q.bias", "blk.1.attn_q_norm.weight", "blk.2.attn_norm.weight", "cls.bias"]
    {
        let error = load_with(name, &[0.0; 64]).unwrap_err();
        assert_eq!(error, format!("tensor `{name}`: is not part of a llama as computed here"));
    }
    load_with("rope_freqs.weight", &[1.0; 8]).unwrap();
}

#[test]
fn rope_factors_that_divide_no_frequency_are_refused() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = load_with("rope_freqs.weight", &[1.0, bad, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let expected = format!("tensor `rope_freqs.weight`: {bad} divides no frequency");
        assert_eq!(error.unwrap_err(), expected);
    }
}
