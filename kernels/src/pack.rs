//! Weights in the order in which the matmul kernel reads them.
//!
//! Quantised: a *tile* is 16 output rows × 32 inputs; lane = output row, four bytes a lane and vector. The kernel takes
//! inputs in pairs, one in each half of a lane: a vector holds four such pairs in its nibbles (4 bits), or two in its
//! bytes (5 to 8 bits), pairs in the order of the inputs. Scales, and minimums where the format has them, follow, sixteen
//! each. A weight is scale × (q − offset) + min. The sum over inputs runs inside a lane, so no kernel adds across lanes.
//!
//! Floats keep their width, `[tile of 16 rows][input][16]`.

use crate::dequant::{Group, unpack};
use crate::quantize::GROUP;
use estafette_gguf::TensorType;
use half::f16;
use memmap2::MmapMut;
use std::thread;
use thiserror::Error;

/// Output rows of a tile.
pub(crate) const LANES: usize = 16;

/// Why weights could not be packed.
#[derive(Debug, Error)]
pub enum PackError {
    /// Parts of one layer have different widths, or there is none.
    #[error("the parts of a layer must have one width, not {0:?}")]
    Widths(Vec<usize>),
    /// The kernels work on groups of 32 inputs, K-quants on 256.
    #[error("a row of {cols} {name} elements is no whole number of blocks of {block}")]
    Cols {
        /// Elements in a row.
        cols: usize,
        /// The format.
        name: &'static str,
        /// Elements in a block.
        block: usize,
    },
    /// A layer without outputs.
    #[error("there are no rows")]
    NoRows,
    /// The data does not have the size that the shape says.
    #[error("{rows} rows of {cols} {name} elements take {expected} bytes, not {found}")]
    Size {
        /// Output rows.
        rows: usize,
        /// Elements in a row.
        cols: usize,
        /// The format.
        name: &'static str,
        /// Bytes there should be.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The system has no memory for the packed weights.
    #[error("no memory for {bytes} bytes of weights: {source}")]
    NoMemory {
        /// Needed.
        bytes: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a packed part is stored. Each has a matmul kernel of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    F16,
    BF16,
    /// Quantised: bits of a weight, scales for 16 inputs instead of 32, minimums, scales in f32 instead of f16.
    Quantised {
        bits: usize,
        per_16: bool,
        min: bool,
        wide: bool,
        offset: i32,
    },
}

impl Format {
    fn of(ty: TensorType) -> Self {
        let quantised =
            |bits, per_16, min, wide, offset| Self::Quantised { bits, per_16, min, wide, offset };
        match ty {
            TensorType::F32 => Self::F32,
            TensorType::F16 => Self::F16,
            TensorType::BF16 => Self::BF16,
            TensorType::Q4_0 => quantised(4, false, false, false, 8),
            TensorType::Q4_1 => quantised(4, false, true, false, 0),
            TensorType::Q5_0 => quantised(8, false, false, false, 16),
            TensorType::Q5_1 => quantised(8, false, true, false, 0),
            TensorType::Q8_0 => quantised(8, false, false, false, 128),
            TensorType::Q4K => quantised(4, false, true, true, 0),
            TensorType::Q5K => quantised(8, false, true, true, 0),
            TensorType::Q6K => quantised(8, true, false, true, 32),
        }
    }

    /// Bytes of 16 rows × 32 inputs.
    pub(crate) fn tile_bytes(self) -> usize {
        match self {
            Self::F32 => LANES * GROUP * 4,
            Self::F16 | Self::BF16 => LANES * GROUP * 2,
            Self::Quantised { bits, per_16, min, wide, .. } => {
                let scales = 1 + usize::from(per_16) + usize::from(min);
                LANES * GROUP * bits / 8 + scales * LANES * if wide { 4 } else { 2 }
            }
        }
    }

    /// Whether the kernel takes int16 activations.
    pub(crate) fn is_quantised(self) -> bool {
        matches!(self, Self::Quantised { .. })
    }
}

/// Consecutive output rows in one format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) format: Format,
    /// First output row, in the output's columns.
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// Place in the packed bytes.
    pub(crate) offset: usize,
}

impl Part {
    /// Tiles of 16 rows; the last one may be padded with zeros.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }
}

/// The weights of a linear layer, `[rows, cols]`: `rows` outputs of `cols` inputs.
#[derive(Debug)]
pub struct PackedLinear {
    pub(crate) parts: Vec<Part>,
    rows: usize,
    cols: usize,
    data: MmapMut,
}

impl PackedLinear {
    /// Packs parts that become consecutive outputs: each a format, rows, columns and the bytes of a GGUF tensor.
    ///
    /// # Errors
    /// When shapes, sizes and formats do not fit together, or memory is missing.
    pub fn pack(parts: &[(TensorType, usize, usize, &[u8])]) -> Result<Self, PackError> {
        let widths: Vec<usize> = parts.iter().map(|part| part.2).collect();
        let Some(&cols) = widths.first().filter(|w| widths.iter().all(|other| other == *w)) else {
            return Err(PackError::Widths(widths));
        };
        let mut layout = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        for &(ty, part_rows, _, data) in parts {
            check(ty, part_rows, cols, data)?;
            let part = Part { format: Format::of(ty), first: rows, rows: part_rows, offset: bytes };
            rows += part_rows;
            bytes += part.tiles() * (cols / GROUP) * part.format.tile_bytes();
            layout.push(part);
        }
        let mut data = huge_pages(bytes)?;
        for (part, source) in layout.iter().zip(parts) {
            let len = part.tiles() * (cols / GROUP) * part.format.tile_bytes();
            pack_part(part, source.0, cols, source.3, &mut data[part.offset..part.offset + len]);
        }
        Ok(Self { parts: layout, rows, cols, data })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Bytes of one tile row (16 outputs, all inputs) of `part`.
    pub(crate) fn tile_row_bytes(&self, part: &Part) -> usize {
        self.cols / GROUP * part.format.tile_bytes()
    }

    /// The weights of output `row` as f32.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let Some(part) = self.parts.iter().find(|p| (p.first..p.first + p.rows).contains(&row))
        else {
            return out.fill(f32::NAN);
        };
        let (tile, lane) = ((row - part.first) / LANES, (row - part.first) % LANES);
        let len = self.tile_row_bytes(part);
        let tiles = &self.data[part.offset + tile * len..][..len];
        for (tile, out) in
            tiles.chunks_exact(part.format.tile_bytes()).zip(out.chunks_exact_mut(GROUP))
        {
            unpack_lane(part.format, tile, lane, out);
        }
    }
}

fn check(ty: TensorType, rows: usize, cols: usize, data: &[u8]) -> Result<(), PackError> {
    if rows == 0 {
        return Err(PackError::NoRows);
    }
    let block = ty.block_len().max(GROUP);
    let bad_cols = || PackError::Cols { cols, name: ty.name(), block };
    let row_bytes = ty.row_bytes(cols).filter(|_| cols > 0 && cols.is_multiple_of(block));
    let expected = row_bytes.ok_or_else(bad_cols)?.saturating_mul(rows);
    if expected != data.len() {
        let (name, found) = (ty.name(), data.len());
        return Err(PackError::Size { rows, cols, name, expected, found });
    }
    Ok(())
}

/// Zeroed memory in huge pages where the system has them: reads are 10 to 20 % faster.
fn huge_pages(bytes: usize) -> Result<MmapMut, PackError> {
    let map =
        MmapMut::map_anon(bytes.max(1)).map_err(|source| PackError::NoMemory { bytes, source })?;
    #[cfg(target_os = "linux")]
    if map.advise(memmap2::Advice::HugePage).is_err() {
        // Only slower.
    }
    Ok(map)
}

/// Packs tile rows on all cores: loading a model is mostly this.
fn pack_part(part: &Part, ty: TensorType, cols: usize, source: &[u8], out: &mut [u8]) {
    let tile_row = cols / GROUP * part.format.tile_bytes();
    let source_row = source.len() / part.rows;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = part.tiles().div_ceil(threads).max(1);
    thread::scope(|scope| {
        for (out, source) in
            out.chunks_mut(share * tile_row).zip(source.chunks(share * LANES * source_row))
        {
            scope.spawn(move || {
                for (out, source) in out.chunks_mut(tile_row).zip(source.chunks(LANES * source_row))
                {
                    for (lane, row) in source.chunks_exact(source_row).enumerate() {
                        pack_row(part.format, ty, row, lane, out);
                    }
                }
            });
        }
    });
}

/// Puts one output row into its lane of a row of tiles.
fn pack_row(format: Format, ty: TensorType, row: &[u8], lane: usize, out: &mut [u8]) {
    let tile_bytes = format.tile_bytes();
    if !format.is_quantised() {
        let width = tile_bytes / (LANES * GROUP);
        for (k, element) in row.chunks_exact(width).enumerate() {
            let at = (k * LANES + lane) * width;
            out[at..at + width].copy_from_slice(element);
        }
        return;
    }
    let mut tiles = out.chunks_exact_mut(tile_bytes);
    let mut groups = [Group::default(); 8];
    for block in row.chunks_exact(ty.block_bytes()) {
        let count = unpack(ty, block, &mut groups);
        for (group, tile) in groups[..count].iter().zip(&mut tiles) {
            pack_group(format, group, lane, tile);
        }
    }
}

/// Byte and bit of the code of input `k`.
fn code_place(k: usize, lane: usize, bits: usize) -> (usize, usize) {
    let pairs = 16 / bits;
    let (vector, pair, half) = (k / 2 / pairs, k / 2 % pairs, k % 2);
    let bit = 16 * half + bits * pair;
    (64 * vector + 4 * lane + bit / 8, bit % 8)
}

fn pack_group(format: Format, group: &Group, lane: usize, tile: &mut [u8]) {
    let Format::Quantised { bits, per_16, min, wide, .. } = format else { return };
    for (k, &q) in group.q.iter().enumerate() {
        let (at, shift) = code_place(k, lane, bits);
        tile[at] |= q << shift;
    }
    let mut at = LANES * GROUP * bits / 8;
    let mut put = |value: f32| {
        if wide {
            tile[at + 4 * lane..][..4].copy_from_slice(&value.to_le_bytes());
            at += 4 * LANES;
        } else {
            tile[at + 2 * lane..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
            at += 2 * LANES;
        }
    };
    put(group.scale[0]);
    if per_16 {
        put(group.scale[1]);
    }
    if min {
        put(group.min);
    }
}

/// The inverse of packing, for one lane of one tile: 32 weights.
fn unpack_lane(format: Format, tile: &[u8], lane: usize, out: &mut [f32]) {
    let half = |at: usize| f16::from_le_bytes([tile[at], tile[at + 1]]).to_f32();
    let float =
        |at: usize| f32::from_le_bytes([tile[at], tile[at + 1], tile[at + 2], tile[at + 3]]);
    for (k, out) in out.iter_mut().enumerate() {
        let at = k * LANES + lane;
        *out = match format {
            Format::F32 => float(4 * at),
            Format::F16 => half(2 * at),
            Format::BF16 => f32::from_bits(
                u32::from(u16::from_le_bytes([tile[2 * at], tile[2 * at + 1]])) << 16,
            ),
            Format::Quantised { bits, per_16, min, wide, offset } => {
                let (at, shift) = code_place(k, lane, bits);
                let q = if bits == 4 { (tile[at] >> shift) & 15 } else { tile[at] };
                let scales = LANES * GROUP * bits / 8;
                let scale = |i: usize| {
                    let width = if wide { 4 } else { 2 };
                    let at = scales + (i * LANES + lane) * width;
                    if wide { float(at) } else { half(at) }
                };
                let d = scale(usize::from(per_16 && k >= 16));
                let m = if min { scale(1) } else { 0.0 };
                d * (i32::from(q) - offset) as f32 + m
            }
        };
    }
}

#[cfg(test)]
pub(crate) mod tests;
