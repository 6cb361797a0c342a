use super::*;
use crate::dequant::dequantize;
use estafette_types::SplitMix64;

/// Random bytes with sane scales: any bytes are codes, but scales must be finite.
pub(crate) fn random_weights(ty: TensorType, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let mut rng = SplitMix64::new(seed);
    let mut bytes: Vec<u8> =
        (0..rows * ty.row_bytes(cols).unwrap()).map(|_| rng.next_u64() as u8).collect();
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        let value = (rng.below(2000) as f32 - 1000.0) / 50_000.0;
        let half = f16::from_f32(value).to_le_bytes();
        match ty {
            TensorType::F32 => block.copy_from_slice(&(value * 7.0).to_le_bytes()),
            TensorType::F16 => block.copy_from_slice(&half),
            TensorType::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            TensorType::Q6K => block[208..].copy_from_slice(&half),
            TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => {
                block[..2].copy_from_slice(&half);
            }
            _ => {
                block[..2].copy_from_slice(&half);
                block[2..4].copy_from_slice(&half);
            }
        }
    }
    bytes
}

#[test]
fn packed_rows_mean_what_the_file_means() {
    for ty in TensorType::ALL {
        let (rows, cols) = (19, 512);
        let bytes = random_weights(ty, rows, cols, 1);
        let packed = PackedLinear::pack(&[(ty, rows, cols, &bytes)]).unwrap();
        let mut expected = vec![0.0; cols];
        let mut found = vec![0.0; cols];
        for row in 0..rows {
            let row_bytes = ty.row_bytes(cols).unwrap();
            dequantize(ty, &bytes[row * row_bytes..][..row_bytes], &mut expected);
            packed.row(row, &mut found);
            assert_eq!(found, expected, "{} row {row}", ty.name());
        }
    }
}

#[test]
fn parts_follow_each_other_and_may_differ_in_format() {
    let (a, b) =
        (random_weights(TensorType::Q4_1, 3, 64, 1), random_weights(TensorType::F32, 17, 64, 2));
    let packed =
        PackedLinear::pack(&[(TensorType::Q4_1, 3, 64, &a), (TensorType::F32, 17, 64, &b)])
            .unwrap();
    assert_eq!((packed.rows(), packed.cols()), (20, 64));
    let mut expected = vec![0.0; 64];
    let mut found = vec![0.0; 64];
    dequantize(TensorType::F32, &b[16 * 64 * 4..], &mut expected);
    packed.row(19, &mut found);
    assert_eq!(found, expected);
}

#[test]
fn wrong_shapes_are_refused() {
    let pack = |ty, rows, cols, len: usize| PackedLinear::pack(&[(ty, rows, cols, &vec![0; len])]);
    let text = |r: Result<PackedLinear, PackError>| r.unwrap_err().to_string();
    assert_eq!(
        text(pack(TensorType::Q4_1, 1, 48, 30)),
        "a row of 48 Q4_1 elements is no whole number of blocks of 32"
    );
    assert_eq!(
        text(pack(TensorType::F32, 2, 32, 8)),
        "2 rows of 32 F32 elements take 256 bytes, not 8"
    );
    assert_eq!(text(pack(TensorType::F32, 0, 32, 0)), "there are no rows");
    assert!(PackedLinear::pack(&[]).is_err());
    assert!(pack(TensorType::Q6K, 1, 128, 105).is_err());
}
