//! How a text is cut before pairs are merged: the expressions that go with a vocabulary's name.
//!
//! From llama.cpp's `llama-vocab.cpp` and the models' own `tokenizer.json`, which agree on these.

use crate::error::TokenizerError;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

const KEY: &str = "tokenizer.ggml.pre";
const SUPPORTED: &str = "smollm, gpt-2, default, llama-bpe, qwen2";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The pre-tokenizer that a GGUF file calls `name`.
pub(crate) fn pre_tokenizer(name: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let by = |expression: &str| -> Result<PreTokenizerWrapper, TokenizerError> {
        let pattern = SplitPattern::Regex(expression.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| TokenizerError::Vocabulary(error.to_string()))?;
        // Bytes only: the cutting is done.
        Ok(sequence(vec![split.into(), ByteLevel::new(false, false, false).into()]))
    };
    match name {
        // Every digit on its own, then GPT-2's expression, which `ByteLevel` brings.
        "smollm" => Ok(sequence(vec![Digits::new(true).into(), gpt2()])),
        "gpt-2" | "default" => Ok(gpt2()),
        "llama-bpe" | "llama3" => by(LLAMA3),
        "qwen2" => by(QWEN2),
        _ => {
            Err(TokenizerError::Unsupported { key: KEY, found: name.into(), supported: SUPPORTED })
        }
    }
}

fn gpt2() -> PreTokenizerWrapper {
    ByteLevel::new(false, false, true).into()
}

fn sequence(parts: Vec<PreTokenizerWrapper>) -> PreTokenizerWrapper {
    Sequence::new(parts).into()
}
