//! Writes GGUF files, version 3: for tests and tools.

use crate::file::Value;
use crate::tensor_type::TensorType;

/// Writes GGUF version 3.
#[derive(Debug, Default)]
pub struct GgufWriter {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, TensorType, Vec<u8>)>,
}

impl GgufWriter {
    /// Adds a key. Integers are written as u32, floats as f32, lists of texts or integers.
    pub fn key(&mut self, name: &str, value: &Value) -> &mut Self {
        let mut bytes = Vec::new();
        bytes.extend(type_number(value).to_le_bytes());
        put_value(&mut bytes, value);
        self.keys.push((name.into(), bytes));
        self
    }

    /// Adds a key, or gives it another value.
    pub fn set_key(&mut self, name: &str, value: &Value) -> &mut Self {
        self.keys.retain(|(other, _)| other != name);
        self.key(name, value)
    }

    /// Adds a tensor, outermost dimension first.
    pub fn tensor(&mut self, name: &str, dims: &[u64], ty: TensorType, data: Vec<u8>) -> &mut Self {
        self.tensors.push((name.into(), dims.to_vec(), ty, data));
        self
    }

    /// The file.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (name, value) in &self.keys {
            put_text(&mut out, name);
            out.extend(value);
        }
        let mut data: Vec<u8> = Vec::new();
        for (name, dims, ty, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            put_text(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().rev().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(ty.to_ggml().to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

fn type_number(value: &Value) -> u32 {
    match value {
        Value::Integer(_) => 4,
        Value::Float(_) => 6,
        Value::Text(_) => 8,
        Value::List(_) => 9,
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Integer(n) => out.extend((*n as u32).to_le_bytes()),
        Value::Float(x) => out.extend((*x as f32).to_le_bytes()),
        Value::Text(text) => put_text(out, text),
        Value::List(list) => {
            out.extend(list.first().map_or(4, type_number).to_le_bytes());
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|value| put_value(out, value));
        }
    }
}
