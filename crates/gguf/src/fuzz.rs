//! Entry point of the fuzzers: model files, which may come from anybody.

use crate::GgufFile;

/// A whole file.
pub fn file(bytes: &[u8]) {
    let Ok(file) = GgufFile::from_bytes(bytes.to_vec()) else { return };
    for name in file.tensor_names() {
        let tensor = file.tensor(name);
        assert!(tensor.is_some(), "a name that is listed is there");
    }
    for key in ["general.architecture", "llama.block_count", "tokenizer.ggml.tokens"] {
        drop((file.text(key), file.integer(key), file.float(key)));
    }
}

#[cfg(test)]
mod tests;
