//! What the bytes of each format mean, one element at a time: the definition that the packed kernels are checked
//! against. Layouts as in ggml's `ggml-quants.c`.

use estafette_gguf::TensorType;
use half::{bf16, f16};

/// Writes the elements that `bytes` stand for to `out`. Both must be whole blocks of the same number.
pub fn dequantize(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len() / ty.block_bytes(), out.len() / ty.block_len(), "as many blocks");
    for (block, out) in
        bytes.chunks_exact(ty.block_bytes()).zip(out.chunks_exact_mut(ty.block_len()))
    {
        match ty {
            TensorType::F32 => {
                out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            }
            TensorType::F16 => out[0] = half_at(block, 0),
            TensorType::BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            _ => {
                let mut groups = [Group::default(); 8];
                let count = unpack(ty, block, &mut groups);
                for (group, out) in groups[..count].iter().zip(out.chunks_exact_mut(32)) {
                    for (i, x) in out.iter_mut().enumerate() {
                        let q = i32::from(group.q[i]) - group.offset;
                        *x = group.scale[i / 16] * q as f32 + group.min;
                    }
                }
            }
        }
    }
}

/// 32 consecutive elements of a quantised row: element = scale × (q − offset) + min.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    /// Of the first and the second half.
    pub(crate) scale: [f32; 2],
    pub(crate) min: f32,
    pub(crate) offset: i32,
    pub(crate) q: [u8; 32],
}

pub(crate) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Splits one block into groups of 32; how many there are.
pub(crate) fn unpack(ty: TensorType, block: &[u8], groups: &mut [Group; 8]) -> usize {
    match ty {
        TensorType::Q4_0 => groups[0] = simple(block, 8, None, None, 2),
        TensorType::Q4_1 => groups[0] = simple(block, 0, Some(2), None, 4),
        TensorType::Q5_0 => groups[0] = simple(block, 16, None, Some(2), 6),
        TensorType::Q5_1 => groups[0] = simple(block, 0, Some(2), Some(4), 8),
        TensorType::Q8_0 => groups[0] = q8_0(block),
        TensorType::Q4K => k_groups(block, None, 16, groups),
        TensorType::Q5K => k_groups(block, Some(16), 48, groups),
        TensorType::Q6K => q6_k(block, groups),
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => return 0,
    }
    ty.block_len() / 32
}

/// Q4_0, Q4_1, Q5_0, Q5_1: a scale, maybe a minimum, maybe fifth bits, then nibbles; byte j holds element j low and
/// element j + 16 high.
fn simple(
    block: &[u8],
    offset: i32,
    min: Option<usize>,
    high: Option<usize>,
    nibbles: usize,
) -> Group {
    let d = half_at(block, 0);
    let fifth = high.map_or(0, |at| {
        u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
    });
    let mut q = [0; 32];
    for j in 0..16 {
        let byte = block[nibbles + j];
        q[j] = (byte & 15) | (((fifth >> j) & 1) << 4) as u8;
        q[j + 16] = (byte >> 4) | (((fifth >> (j + 16)) & 1) << 4) as u8;
    }
    Group { scale: [d, d], min: min.map_or(0.0, |at| half_at(block, at)), offset, q }
}

/// Signed bytes, kept as unsigned ones with an offset of 128.
fn q8_0(block: &[u8]) -> Group {
    let d = half_at(block, 0);
    let mut q = [0; 32];
    for (q, byte) in q.iter_mut().zip(&block[2..34]) {
        *q = byte ^ 0x80;
    }
    Group { scale: [d, d], min: 0.0, offset: 128, q }
}

/// Q4_K and Q5_K: eight groups, each with a 6-bit scale and minimum; 64 elements share 32 bytes of nibbles.
fn k_groups(block: &[u8], high: Option<usize>, nibbles: usize, groups: &mut [Group; 8]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (j, group) in groups.iter_mut().enumerate() {
        let (scale, min) = k_scale_min(&block[4..16], j);
        let scale = d * f32::from(scale);
        *group =
            Group { scale: [scale, scale], min: -(dmin * f32::from(min)), offset: 0, q: [0; 32] };
        for (l, q) in group.q.iter_mut().enumerate() {
            let byte = block[nibbles + 32 * (j / 2) + l];
            let low = if j % 2 == 0 { byte & 15 } else { byte >> 4 };
            let fifth = high.map_or(0, |at| (block[at + l] >> j) & 1);
            *q = low | (fifth << 4);
        }
    }
}

/// The 6-bit scale and minimum of group `j`, packed into 12 bytes.
fn k_scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
        let min = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
        (scale, min)
    }
}

/// Q6_K: low nibbles, then pairs of high bits, then sixteen signed scales, then d.
fn q6_k(block: &[u8], groups: &mut [Group; 8]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let d = half_at(rest, 16);
    for (g, group) in groups.iter_mut().enumerate() {
        // Each half of 128 elements has four groups; they take turns over the same bytes.
        let (half, k) = (g / 4, g % 4);
        let scale = |i: usize| d * f32::from(rest[2 * g + i] as i8);
        *group = Group { scale: [scale(0), scale(1)], min: 0.0, offset: 32, q: [0; 32] };
        for (l, q) in group.q.iter_mut().enumerate() {
            let byte = low[64 * half + 32 * (k % 2) + l];
            let nibble = if k < 2 { byte & 15 } else { byte >> 4 };
            *q = nibble | (((high[32 * half + l] >> (2 * k)) & 3) << 4);
        }
    }
}

#[cfg(test)]
mod tests;
