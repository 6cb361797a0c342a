//! Known answers, computed by hand from ggml's definitions of the formats.

use super::*;

fn f16_bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

fn values(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; ty.block_len()];
    dequantize(ty, bytes, &mut out);
    out
}

/// Byte j holds j in the low and 15 − j in the high nibble.
fn nibbles() -> Vec<u8> {
    (0..16u8).map(|j| j | ((15 - j) << 4)).collect()
}

#[test]
fn q4_nibbles_are_element_j_and_j_plus_16() {
    let bytes = [&f16_bytes(0.5)[..], &nibbles()].concat();
    let out = values(TensorType::Q4_0, &bytes);
    assert_eq!((out[0], out[3], out[15], out[16], out[31]), (-4.0, -2.5, 3.5, 3.5, -4.0));
    let bytes = [&f16_bytes(0.5)[..], &f16_bytes(-1.0), &nibbles()].concat();
    let out = values(TensorType::Q4_1, &bytes);
    assert_eq!((out[0], out[3], out[15], out[16], out[31]), (-1.0, 0.5, 6.5, 6.5, -1.0));
}

#[test]
fn q5_takes_its_fifth_bit_from_the_bit_of_the_element() {
    let high = (1u32 << 3 | 1 << 16).to_le_bytes();
    let bytes = [&f16_bytes(1.0)[..], &high, &nibbles()].concat();
    let out = values(TensorType::Q5_0, &bytes);
    assert_eq!((out[0], out[3], out[16], out[31]), (-16.0, 3.0, 15.0, -16.0));
    let bytes = [&f16_bytes(1.0)[..], &f16_bytes(2.0), &high, &nibbles()].concat();
    let out = values(TensorType::Q5_1, &bytes);
    assert_eq!((out[0], out[3], out[16], out[31]), (2.0, 21.0, 33.0, 2.0));
}

#[test]
fn q8_0_bytes_are_signed() {
    let codes: Vec<u8> =
        (0..32u8).map(|i| if i == 0 { 0x80 } else { i.wrapping_sub(16) }).collect();
    let out = values(TensorType::Q8_0, &[&f16_bytes(0.25)[..], &codes].concat());
    assert_eq!((out[0], out[1], out[16], out[31]), (-32.0, -3.75, 0.0, 3.75));
}

#[test]
fn k_quants_unpack_six_bit_scales() {
    // Scales 1..=8 times 5, minimums 8..=1: groups 4 to 7 keep their high bits elsewhere.
    let (scales, mins): (Vec<u8>, Vec<u8>) =
        ((1..=8).map(|i| i * 5).collect(), (1..=8).rev().collect());
    let mut packed = [0u8; 12];
    for j in 0..4 {
        packed[j] = scales[j] | ((scales[j + 4] >> 4) << 6);
        packed[j + 4] = mins[j] | ((mins[j + 4] >> 4) << 6);
        packed[j + 8] = (scales[j + 4] & 15) | ((mins[j + 4] & 15) << 4);
    }
    let head = [&f16_bytes(0.5)[..], &f16_bytes(0.25), &packed].concat();
    let q4 = [head.clone(), vec![0x21; 128]].concat();
    let out = values(TensorType::Q4K, &q4);
    for j in 0..8 {
        let q = if j % 2 == 0 { 1.0 } else { 2.0 };
        let expected = 0.5 * f32::from(scales[j]) * q - 0.25 * f32::from(mins[j]);
        assert_eq!(out[32 * j], expected, "group {j}");
        assert_eq!(out[32 * j + 31], expected, "group {j}");
    }
    // The fifth bit of group j is bit j of the byte of the element.
    let mut high = vec![0u8; 32];
    high[7] = 1 << 5;
    let q5 = [head, high, vec![0x21; 128]].concat();
    let out = values(TensorType::Q5K, &q5);
    let base = |j: usize, q: f32| 0.5 * f32::from(scales[j]) * q - 0.25 * f32::from(mins[j]);
    assert_eq!((out[32 * 5 + 6], out[32 * 5 + 7]), (base(5, 2.0), base(5, 18.0)));
}

#[test]
fn q6_k_puts_its_halves_side_by_side() {
    let mut block = vec![0u8; 210];
    block[..128].fill(0x53);
    // Element 0 of the third group of the first half: bits 4 and 5 of high byte 0.
    block[128] = 0b10 << 4;
    for (i, scale) in block[192..208].iter_mut().enumerate() {
        *scale = (i as i8 - 4) as u8;
    }
    block[208..210].copy_from_slice(&f16_bytes(2.0));
    let out = values(TensorType::Q6K, &block);
    assert_eq!(out[0], 2.0 * -4.0 * (3.0 - 32.0));
    assert_eq!(out[16], 2.0 * -3.0 * (3.0 - 32.0));
    assert_eq!(out[64], 2.0 * 0.0 * (5.0 + 32.0 - 32.0));
    assert_eq!(out[128 + 80], 2.0 * 9.0 * (5.0 - 32.0));
    block[192 + 4] = 1;
    assert_eq!(values(TensorType::Q6K, &block)[64], 2.0 * (5.0 + 32.0 - 32.0));
}

#[test]
fn floats() {
    assert_eq!(values(TensorType::F32, &1.5f32.to_le_bytes()), [1.5]);
    assert_eq!(values(TensorType::F16, &f16_bytes(-2.5)), [-2.5]);
    assert_eq!(values(TensorType::BF16, &bf16::from_f32(3.0).to_le_bytes()), [3.0]);
}
