//! GGUF files, version 2 and 3, little endian.
//!
//! Every count, length and offset is checked against the file before it is used: the bytes may come from anybody.
//! Weights stay in the file's memory map until a backend copies them.

use crate::error::GgufError;
use crate::reader::Reader;
use crate::tensor_type::TensorType;
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// More than any real file has.
const TENSORS_MAX: u64 = 1 << 17;
const KEYS_MAX: u64 = 1 << 16;
const DIMS_MAX: u32 = 4;
const ALIGNMENT_MAX: u64 = 1 << 16;
/// The digest covers so much of each end of a tensor.
const DIGEST_BYTES: usize = 4096;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned or signed integer, and booleans.
    Integer(i128),
    /// f32 and f64.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
}

#[derive(Clone, Debug)]
struct TensorInfo {
    ty: TensorType,
    /// Outermost first: `[rows, cols]`.
    dims: Vec<usize>,
    range: Range<usize>,
}

/// A tensor in the file: `[rows, cols]`, row-major; vectors have one row.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its elements are stored.
    pub ty: TensorType,
    /// Rows.
    pub rows: usize,
    /// Elements in a row.
    pub cols: usize,
    /// Its bytes.
    pub data: &'a [u8],
}

/// The bytes of a file.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// An open file: its metadata, and where its tensors are.
#[derive(Debug)]
pub struct GgufFile {
    bytes: Bytes,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
    digest: [u8; 32],
}

impl GgufFile {
    /// Maps and parses the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is not a whole GGUF file.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is only read. If somebody truncates the file meanwhile, the process gets a bus error, as with
        // any mapped file; weights are copied out once, while loading.
        #[expect(unsafe_code, reason = "mapping a file")]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::parse(Bytes::Mapped(map))
    }

    /// Parses a file that is in memory.
    ///
    /// # Errors
    /// When it is not a whole GGUF file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::parse(Bytes::Owned(bytes))
    }

    fn parse(bytes: Bytes) -> Result<Self, GgufError> {
        let mut reader = Reader::new(bytes.get());
        let magic = reader.array::<4>("the magic number")?;
        if magic != *b"GGUF" {
            return Err(GgufError::Magic(magic));
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = limited(reader.u64("the number of tensors")?, TENSORS_MAX, "tensors")?;
        let key_count = limited(reader.u64("the number of keys")?, KEYS_MAX, "metadata keys")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..key_count {
            let key = reader.text("a metadata key")?;
            let value = reader.typed_value(&key)?;
            if metadata.contains_key(&key) {
                return Err(GgufError::metadata(&key, "is there twice"));
            }
            metadata.insert(key, value);
        }
        let mut headers = Vec::new();
        for _ in 0..tensor_count {
            headers.push(tensor_header(&mut reader)?);
        }
        let header_end = reader.position();
        let start = data_start(&metadata, header_end)?;
        let len = bytes.get().len() as u64;
        let mut tensors = BTreeMap::new();
        for header in headers {
            let (name, info) = locate(header, start, len)?;
            if tensors.contains_key(&name) {
                return Err(GgufError::tensor(&name, "is there twice"));
            }
            tensors.insert(name, info);
        }
        let digest = digest(bytes.get(), header_end, &tensors);
        Ok(Self { bytes, metadata, tensors, digest })
    }

    /// The identity of the model: SHA-256 of the header (metadata and tensor directory) and, for each tensor in the order
    /// of names, of its length and of the first and last 4 KiB of its data.
    ///
    /// So files of a hundred gigabytes have it after reading a few megabytes. It tells apart two trainings, a fine-tune, a
    /// merge, another quantisation: what changes every tensor changes its ends. It does not notice changes that keep to
    /// the middle of tensors, such as a bad sector or an edit of single rows; whoever must be safe from those compares
    /// whole files.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A text.
    ///
    /// # Errors
    /// When the key is missing or is no text.
    pub fn text(&self, key: &str) -> Result<&str, GgufError> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            Some(_) => Err(GgufError::metadata(key, "must be a text")),
            None => Err(GgufError::metadata(key, "is missing")),
        }
    }

    /// An integer that fits `usize`; `None` when the key is missing.
    ///
    /// # Errors
    /// When it is something else.
    pub fn integer(&self, key: &str) -> Result<Option<usize>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Integer(n)) => usize::try_from(*n)
                .map(Some)
                .map_err(|_| GgufError::metadata(key, format!("{n} is out of range"))),
            Some(_) => Err(GgufError::metadata(key, "must be an integer")),
        }
    }

    /// A finite number; `None` when the key is missing.
    ///
    /// # Errors
    /// When it is something else.
    pub fn float(&self, key: &str) -> Result<Option<f32>, GgufError> {
        let value = match self.value(key) {
            None => return Ok(None),
            Some(Value::Float(x)) => *x as f32,
            Some(Value::Integer(n)) => *n as f32,
            Some(_) => return Err(GgufError::metadata(key, "must be a number")),
        };
        if value.is_finite() {
            Ok(Some(value))
        } else {
            Err(GgufError::metadata(key, "must be finite"))
        }
    }

    /// The names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor; `None` when there is none of this name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, info) = self.tensors.get_key_value(name)?;
        let cols = info.dims.last().copied().unwrap_or(1);
        let rows = info.dims.iter().rev().skip(1).product();
        let data = &self.bytes.get()[info.range.clone()];
        Some(TensorView { name, ty: info.ty, rows, cols, data })
    }
}

/// See [`GgufFile::digest`].
fn digest(bytes: &[u8], header_end: usize, tensors: &BTreeMap<String, TensorInfo>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(&bytes[..header_end]);
    for tensor in tensors.values() {
        let data = &bytes[tensor.range.clone()];
        let end = data.len().min(DIGEST_BYTES);
        hasher.update((data.len() as u64).to_le_bytes());
        hasher.update(&data[..end]);
        hasher.update(&data[data.len() - end..]);
    }
    hasher.finalize().into()
}

fn limited(count: u64, max: u64, what: &str) -> Result<u64, GgufError> {
    if count <= max {
        Ok(count)
    } else {
        Err(GgufError::Header(format!("{count} {what}, at most {max}")))
    }
}

/// Name, format, dimensions and offset, as the directory has them.
struct TensorHeader {
    name: String,
    ty: TensorType,
    dims: Vec<usize>,
    offset: u64,
}

fn tensor_header(reader: &mut Reader<'_>) -> Result<TensorHeader, GgufError> {
    let name = reader.text("a tensor's name")?;
    let count = reader.u32("a tensor's number of dimensions")?;
    if count == 0 || count > DIMS_MAX {
        return Err(GgufError::tensor(&name, format!("{count} dimensions, at most {DIMS_MAX}")));
    }
    let mut dims = Vec::new();
    for _ in 0..count {
        let dim = reader.u64("a dimension")?;
        dims.push(usize::try_from(dim).map_err(|_| GgufError::tensor(&name, "is too large"))?);
    }
    // The file lists the innermost dimension first.
    dims.reverse();
    let number = reader.u32("a tensor's type")?;
    let ty = TensorType::from_ggml(number).ok_or_else(|| {
        let known: Vec<_> = TensorType::ALL.iter().map(|ty| ty.name()).collect();
        GgufError::tensor(
            &name,
            format!("type {number} is not supported, only {}", known.join(", ")),
        )
    })?;
    let offset = reader.u64("a tensor's offset")?;
    Ok(TensorHeader { name, ty, dims, offset })
}

fn data_start(metadata: &BTreeMap<String, Value>, header_end: usize) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let alignment = match metadata.get(KEY) {
        None => 32,
        Some(Value::Integer(n)) => u64::try_from(*n).unwrap_or(0),
        Some(_) => 0,
    };
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        return Err(GgufError::metadata(KEY, "must be a power of two of at most 65536"));
    }
    Ok((header_end as u64).next_multiple_of(alignment))
}

fn locate(header: TensorHeader, start: u64, len: u64) -> Result<(String, TensorInfo), GgufError> {
    let TensorHeader { name, ty, dims, offset } = header;
    let cols = dims.last().copied().unwrap_or(1);
    let row_bytes = ty.row_bytes(cols).ok_or_else(|| {
        GgufError::tensor(
            &name,
            format!("rows of {cols} elements are no whole {} blocks", ty.name()),
        )
    })?;
    let rows = dims.iter().rev().skip(1).try_fold(1usize, |n, dim| n.checked_mul(*dim));
    let bytes = rows.and_then(|rows| rows.checked_mul(row_bytes));
    let place = bytes.and_then(|bytes| {
        let from = start.checked_add(offset)?;
        Some((from, from.checked_add(bytes as u64)?))
    });
    let Some((from, to)) = place else {
        return Err(GgufError::tensor(&name, "is too large"));
    };
    if to > len {
        return Err(GgufError::Truncated { what: format!("tensor `{name}`"), at: from, len });
    }
    Ok((name, TensorInfo { ty, dims, range: from as usize..to as usize }))
}

#[cfg(test)]
mod tests;
