//! The promise of the crate: the same bits alone or in a batch, on any number of threads, on any tier.

use super::*;
use crate::dequant::dequantize;
use crate::memory::KvLayout;
use crate::pack::tests::random_weights;
use estafette_gguf::TensorType;
use estafette_types::{BlockId, SplitMix64};

fn tiers() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|tier| tier.is_supported())
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = SplitMix64::new(seed);
    (0..len).map(|_| (rng.below(20_001) as f32 - 10_000.0) / 5_000.0).collect()
}

fn linear(tier: Tier, threads: usize, w: &PackedLinear, x: &[f32], rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * w.rows()];
    CpuKernels::new(tier, threads).linear(w, x, rows, &mut out, Mode::Store);
    out
}

#[test]
fn a_linear_row_has_the_same_bits_in_every_batch_thread_count_and_tier() {
    for ty in TensorType::ALL {
        let (outputs, inputs, rows) = (83, 512, 37);
        let w =
            PackedLinear::pack(&[(ty, outputs, inputs, &random_weights(ty, outputs, inputs, 1))])
                .unwrap();
        let x = random(rows * inputs, 2);
        let expected = linear(Tier::Portable, 1, &w, &x, rows);
        for tier in tiers() {
            for threads in 1..=3 {
                assert_eq!(
                    linear(tier, threads, &w, &x, rows),
                    expected,
                    "{tier:?} {threads} {ty:?}"
                );
            }
            for batch in [1, 2, 7, 8, 9] {
                for first in [0, rows - batch] {
                    let x = &x[first * inputs..(first + batch) * inputs];
                    let expected = &expected[first * outputs..(first + batch) * outputs];
                    assert_eq!(linear(tier, 2, &w, x, batch), expected, "{tier:?} {batch} {ty:?}");
                }
            }
        }
    }
}

#[test]
fn a_linear_layer_computes_the_product() {
    for ty in TensorType::ALL {
        let (outputs, inputs) = (19, 256);
        let bytes = random_weights(ty, outputs, inputs, 5);
        let w = PackedLinear::pack(&[(ty, outputs, inputs, &bytes)]).unwrap();
        let x = random(inputs, 6);
        let mut weights = vec![0.0; outputs * inputs];
        dequantize(ty, &bytes, &mut weights);
        let found = linear(Tier::detect(), 1, &w, &x, 1);
        for (row, found) in weights.chunks_exact(inputs).zip(found) {
            let exact: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            let size: f64 =
                row.iter().zip(&x).map(|(w, x)| (f64::from(*w) * f64::from(*x)).abs()).sum();
            // A term is off by half a step at most, of 1/32767 of the largest activation; and f32 rounds.
            let quantised = w.parts[0].format.is_quantised();
            let allowed = if quantised { size / 30_000.0 } else { size * 1e-6 };
            assert!((f64::from(found) - exact).abs() <= allowed, "{ty:?}: {found} {exact}");
        }
    }
}

#[test]
fn adding_adds_once_after_the_sum() {
    let w = PackedLinear::pack(&[(
        TensorType::Q4_1,
        35,
        64,
        &random_weights(TensorType::Q4_1, 35, 64, 1),
    )])
    .unwrap();
    let x = random(3 * 64, 2);
    let residual = random(3 * 35, 3);
    let product = linear(Tier::detect(), 1, &w, &x, 3);
    let mut out = residual.clone();
    CpuKernels::new(Tier::detect(), 2).linear(&w, &x, 3, &mut out, Mode::Add);
    let expected: Vec<f32> = residual.iter().zip(product).map(|(r, p)| r + p).collect();
    assert_eq!(out, expected);
}

#[test]
fn small_operators_agree_on_every_tier() {
    let (rows, width) = (9, 48);
    let (x, weight) = (random(rows * width, 1), random(width, 2));
    let run = |tier, threads| {
        let mut kernels = CpuKernels::new(tier, threads);
        let mut norm = vec![0.0; rows * width];
        kernels.rms_norm(&x, rows, &weight, 1e-5, &mut norm);
        let mut glu = vec![0.0; rows * width / 2];
        kernels.swiglu(&norm, rows, width / 2 / 16 * 16, &mut glu[..rows * 16]);
        let mut terms = vec![0.0; 100];
        let sum = kernels.exp_sum(&x[..100], 2.0, 0.7, Some(&mut terms));
        (norm, glu, sum.to_bits(), terms)
    };
    let expected = run(Tier::Portable, 1);
    for tier in tiers() {
        assert_eq!(run(tier, 2), expected, "{tier:?}");
    }
    let row = &x[..width];
    let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / width as f64;
    let first = f64::from(row[0]) / (mean + 1e-5).sqrt() * f64::from(weight[0]);
    assert!((f64::from(expected.0[0]) - first).abs() < 1e-6);
}

const LAYOUT: KvLayout =
    KvLayout { num_blocks: 24, block_size: 16, layers: 2, kv_heads: 2, head_dim: 32 };
const HEADS: usize = 6;
const STRIDE: usize = (HEADS + 2 * 2) * 32;

/// A pool full of NaN: reading what was never stored spoils the result.
fn pool() -> KvCache {
    let cache = KvCache::new(LAYOUT, false).unwrap();
    // SAFETY: nobody else has it.
    unsafe { cache.memory().slice_mut(0..LAYOUT.total_bytes()) }.fill(0xff);
    cache
}

/// A sequence of `len` rows (q, k, v side by side) run in chunks; the attention outputs.
fn attend(
    tier: Tier,
    threads: usize,
    qkv: &[f32],
    blocks: &[BlockId],
    chunks: &[usize],
) -> Vec<f32> {
    let mut kernels = CpuKernels::new(tier, threads);
    let mut cache = pool();
    let mut out = Vec::new();
    let mut start = 0;
    for &rows in chunks {
        let data = &qkv[start * STRIDE..(start + rows) * STRIDE];
        let columns = |offset| Columns { data, stride: STRIDE, offset };
        let slots: Vec<u32> =
            (start..start + rows).map(|p| blocks[p / 16].0 * 16 + (p % 16) as u32).collect();
        let mut chunk = vec![f32::NAN; rows * HEADS * 32];
        let seq = AttentionSeq { rows: 0..rows, start: start as u32, block_table: blocks };
        let (k, v) = (columns(HEADS * 32), columns((HEADS + 2) * 32));
        kernels.store_kv(k, v, &slots, &mut cache, 1);
        kernels.attention(columns(0), HEADS, 0.2, &[seq], &cache, 1, &mut chunk);
        out.extend(chunk);
        start += rows;
    }
    out
}

fn blocks() -> Vec<BlockId> {
    (0..20).map(|i| BlockId((i * 7 + 3) % 24)).collect()
}

#[test]
fn attention_has_the_same_bits_however_it_is_cut() {
    let len = 300;
    let qkv = random(len * STRIDE, 9);
    let expected = attend(Tier::Portable, 1, &qkv, &blocks(), &[len]);
    assert!(expected.iter().all(|x| x.is_finite()), "something that was never stored was used");
    for tier in tiers() {
        let whole = attend(tier, 2, &qkv, &blocks(), &[len]);
        assert_eq!(whole, expected, "{tier:?}");
        assert_eq!(attend(tier, 3, &qkv, &blocks(), &[37, 63, 1, 199]), expected, "{tier:?}");
    }
    let one_by_one = attend(Tier::detect(), 1, &qkv, &blocks(), &vec![1; len]);
    assert_eq!(one_by_one, expected);
    let other_blocks: Vec<BlockId> = (0..20).map(BlockId).collect();
    assert_eq!(attend(Tier::detect(), 1, &qkv, &other_blocks, &[len]), expected);
}

#[test]
fn attention_is_softmax_of_scores_times_values() {
    let len = 40;
    let qkv = random(len * STRIDE, 4);
    let found = attend(Tier::detect(), 1, &qkv, &blocks(), &[len]);
    let at = |row: usize, column: usize| f64::from(qkv[row * STRIDE + column]);
    for row in [0, 15, 16, 39] {
        for head in [0, 3, 5] {
            let kv_head = head / 3;
            let score = |key: usize| -> f64 {
                (0..32)
                    .map(|d| at(row, head * 32 + d) * at(key, (HEADS + kv_head) * 32 + d))
                    .sum::<f64>()
                    * 0.2
            };
            let weights: Vec<f64> = (0..=row).map(|key| score(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in [0, 31] {
                let value = |key: usize| at(key, (HEADS + 2 + kv_head) * 32 + d);
                let exact =
                    weights.iter().enumerate().map(|(key, w)| w * value(key)).sum::<f64>() / total;
                let found = f64::from(found[(row * HEADS + head) * 32 + d]);
                assert!((found - exact).abs() < 3e-3, "row {row} head {head}: {found} {exact}");
            }
        }
    }
}

#[test]
fn sequences_of_a_batch_do_not_see_each_other() {
    let qkv = random(24 * STRIDE, 8);
    let (a, b) = (&blocks()[..2], &blocks()[2..4]);
    let alone = [
        attend(Tier::detect(), 1, &qkv[..20 * STRIDE], a, &[20]),
        attend(Tier::detect(), 1, &qkv[20 * STRIDE..], b, &[4]),
    ];
    let mut cache = pool();
    let columns = |offset| Columns { data: &qkv, stride: STRIDE, offset };
    let slot = |blocks: &[BlockId], p: usize| blocks[p / 16].0 * 16 + (p % 16) as u32;
    let slots: Vec<u32> = (0..20).map(|p| slot(a, p)).chain((0..4).map(|p| slot(b, p))).collect();
    let seqs = [
        AttentionSeq { rows: 0..20, start: 0, block_table: a },
        AttentionSeq { rows: 20..24, start: 0, block_table: b },
    ];
    let mut out = vec![0.0; 24 * HEADS * 32];
    let mut kernels = CpuKernels::new(Tier::detect(), 2);
    kernels.store_kv(columns(HEADS * 32), columns((HEADS + 2) * 32), &slots, &mut cache, 0);
    kernels.attention(columns(0), HEADS, 0.2, &seqs, &cache, 0, &mut out);
    assert_eq!(out, alone.concat());
}

#[test]
fn values_beyond_f16_are_limited_not_infinite() {
    let mut qkv = random(STRIDE, 1);
    qkv[(HEADS + 2) * 32] = 1e9;
    let out = attend(Tier::detect(), 1, &qkv, &blocks(), &[1]);
    assert_eq!(out[0], 65504.0);
}

/// One layer of a pool, some rows, two sequences in the batch.
fn store_and_attend(slots: &[u32], rows: [std::ops::Range<usize>; 2]) {
    let qkv = random(4 * STRIDE, 3);
    let columns = |offset| Columns { data: &qkv, stride: STRIDE, offset };
    let (table, mut cache) = (blocks(), pool());
    let mut kernels = CpuKernels::new(Tier::detect(), 2);
    kernels.store_kv(columns(HEADS * 32), columns((HEADS + 2) * 32), slots, &mut cache, 0);
    let seqs = rows.map(|rows| AttentionSeq { rows, start: 0, block_table: &table });
    let mut out = vec![0.0; 4 * HEADS * 32];
    kernels.attention(columns(0), HEADS, 0.2, &seqs, &cache, 0, &mut out);
}

#[test]
fn rows_that_are_nobody_elses_are_taken_in_any_order_of_slots() {
    store_and_attend(&[20, 21, 3, 4], [0..2, 2..4]);
}

#[test]
#[should_panic(expected = "each slot is written once")]
fn two_rows_for_one_slot_are_refused() {
    store_and_attend(&[20, 21, 3, 20], [0..2, 2..4]);
}

#[test]
#[should_panic(expected = "slots are inside the pool")]
fn a_slot_outside_the_pool_is_refused() {
    store_and_attend(&[0, 1, 2, 24 * 16], [0..2, 2..4]);
}

#[test]
#[should_panic(expected = "rows of one sequence")]
fn sequences_that_share_a_row_are_refused() {
    store_and_attend(&[0, 1, 2, 3], [0..3, 2..4]);
}

#[test]
#[should_panic(expected = "a row for each token")]
fn embedding_into_too_little_is_refused() {
    let bytes = random_weights(TensorType::F32, 2, 32, 1);
    let table = PackedLinear::pack(&[(TensorType::F32, 2, 32, &bytes)]).unwrap();
    CpuKernels::new(Tier::detect(), 1).embed(&table, &[0, 1], &mut [0.0; 63]);
}

#[test]
fn these_are_the_bits_that_the_numerics_id_names() {
    let mut bits = Vec::new();
    let mut kernels = CpuKernels::new(Tier::detect(), 1);
    for ty in TensorType::ALL {
        let w = PackedLinear::pack(&[(ty, 16, 256, &random_weights(ty, 16, 256, 1))]).unwrap();
        bits.extend(linear(Tier::detect(), 1, &w, &random(3 * 256, 2), 3));
    }
    bits.extend(attend(Tier::detect(), 1, &random(40 * STRIDE, 3), &blocks(), &[40]));
    let (x, mut norm, mut glu) = (random(64, 4), [0.0; 64], [0.0; 32]);
    kernels.rms_norm(&x, 1, &random(64, 5), 1e-5, &mut norm);
    kernels.swiglu(&x, 1, 32, &mut glu);
    bits.extend(norm.into_iter().chain(glu));
    bits.push(kernels.exp_sum(&x, 2.0, 0.7, None));
    bits.extend(x.iter().map(|x| crate::ln(x.abs())));
    let hash = bits.iter().fold(0u64, |hash, x| {
        (hash ^ u64::from(x.to_bits())).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    let expected = ("cpu-int16-g32-v2", 0xe74823fb6ea24403);
    assert_eq!((NUMERICS, hash), expected, "other bits need another NUMERICS, and then this");
}
