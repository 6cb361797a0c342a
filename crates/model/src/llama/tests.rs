use super::*;
use crate::backend::BatchSequence;
use crate::reference::ReferenceBackend;
use estafette_gguf::tiny::tiny_llama;
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
    let error = |name, rows| tensor(&file, name, rows, 64).unwrap_err().to_string();
    assert_eq!(error("blk.9.attn_q.weight", 64), "tensor `blk.9.attn_q.weight` is missing");
    assert_eq!(
        error("token_embd.weight", 300),
        "tensor `token_embd.weight`: is 258 × 64, not 300 × 64"
    );
}
