//! Reads numbers, texts and values from hostile bytes.

use crate::error::GgufError;
use crate::file::Value;

/// More than any vocabulary has; an element takes more memory than it takes bytes.
const LIST_MAX: u64 = 1 << 22;
/// Lists inside lists are legal; deeper than this they are an attack.
const DEPTH_MAX: u32 = 4;

/// A place in the bytes. Never reads past the end. What it allocates is bounded by the bytes that are really there, at
/// most a few dozen times as much: a one-byte element of a list becomes a [`Value`].
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], GgufError> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() as u64 {
            let (at, len) = (self.at as u64, self.bytes.len() as u64);
            return Err(GgufError::Truncated { what: what.into(), at, len });
        }
        let (taken, _) = rest.split_at(count as usize);
        self.at += count as usize;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn text(&mut self, what: &str) -> Result<String, GgufError> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| GgufError::Header(format!("{what} is not UTF-8")))
    }

    /// A type number and a value of that type.
    pub(crate) fn typed_value(&mut self, key: &str) -> Result<Value, GgufError> {
        let ty = self.u32(key)?;
        self.value(ty, key, 0)
    }

    fn value(&mut self, ty: u32, key: &str, depth: u32) -> Result<Value, GgufError> {
        let integer = |n: i128| Ok(Value::Integer(n));
        match ty {
            0 => integer(u8::from_le_bytes(self.array(key)?).into()),
            1 => integer(i8::from_le_bytes(self.array(key)?).into()),
            2 => integer(u16::from_le_bytes(self.array(key)?).into()),
            3 => integer(i16::from_le_bytes(self.array(key)?).into()),
            4 => integer(self.u32(key)?.into()),
            5 => integer(i32::from_le_bytes(self.array(key)?).into()),
            6 => Ok(Value::Float(f32::from_le_bytes(self.array(key)?).into())),
            7 => match self.array::<1>(key)? {
                [flag @ 0..=1] => integer(flag.into()),
                [other] => Err(GgufError::metadata(key, format!("{other} is no boolean"))),
            },
            8 => self.text(key).map(Value::Text),
            9 if depth < DEPTH_MAX => self.list(key, depth),
            10 => integer(self.u64(key)?.into()),
            11 => integer(i64::from_le_bytes(self.array(key)?).into()),
            12 => Ok(Value::Float(f64::from_le_bytes(self.array(key)?))),
            _ => Err(GgufError::metadata(key, format!("value type {ty} is unknown"))),
        }
    }

    fn list(&mut self, key: &str, depth: u32) -> Result<Value, GgufError> {
        let ty = self.u32(key)?;
        let count = self.u64(key)?;
        if count > LIST_MAX {
            return Err(GgufError::metadata(key, format!("{count} elements, at most {LIST_MAX}")));
        }
        // Each element takes at least a byte, so a count beyond the file ends the loop early by itself.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(self.value(ty, key, depth + 1)?);
        }
        Ok(Value::List(list))
    }
}
