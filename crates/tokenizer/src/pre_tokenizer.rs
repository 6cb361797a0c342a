//! How a text is prepared and cut before pairs are merged: what goes with a vocabulary's name.
//!
//! The expressions are those of llama.cpp's `llama-vocab.cpp` and of the models' own `tokenizer.json`, which agree except in
//! two points. The models' own decides in the first: Qwen composes characters (NFC), llama.cpp does not. In the second there
//! is none: `default` says that a converter did not know the vocabulary; it is cut as GPT-2's.

use crate::error::TokenizerError;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

const KEY: &str = "tokenizer.ggml.pre";
const SUPPORTED: &str = "smollm, gpt-2, default, llama-bpe, qwen2";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Over all characters 7 bytes become 2 at worst: a Greek iota in its widest form and two accents.
const NFC_SHRINKS: usize = 4;

/// What happens to a text before pairs are merged.
pub(crate) struct Preparation {
    pub(crate) normalizer: Option<NormalizerWrapper>,
    /// The normalizer leaves no fewer bytes than a text's own divided by this.
    pub(crate) shrinks: usize,
    pub(crate) pre_tokenizer: PreTokenizerWrapper,
    /// It cuts by GPT-2's expression alone: `true` after every digit was cut off, `false` as the text is.
    pub(crate) gpt2_digits: Option<bool>,
    /// A piece that is a token is that token, also where merging would not lead to it.
    pub(crate) ignore_merges: bool,
    /// Texts begin with BOS when the file does not say whether they do, as in llama.cpp.
    pub(crate) bos_by_default: bool,
}

impl Preparation {
    /// What a GGUF file calls `name`.
    pub(crate) fn named(name: &str) -> Result<Self, TokenizerError> {
        let plain = |pre_tokenizer| Self {
            normalizer: None,
            shrinks: 1,
            pre_tokenizer,
            gpt2_digits: None,
            ignore_merges: false,
            bos_by_default: false,
        };
        match name {
            // Every digit on its own, then GPT-2's expression, which `ByteLevel` brings.
            "smollm" => {
                let cut = sequence(vec![Digits::new(true).into(), gpt2()]);
                Ok(Self { gpt2_digits: Some(true), ..plain(cut) })
            }
            "gpt-2" | "default" => Ok(Self { gpt2_digits: Some(false), ..plain(gpt2()) }),
            "llama-bpe" | "llama3" => {
                Ok(Self { ignore_merges: true, bos_by_default: true, ..plain(by(LLAMA3)?) })
            }
            "qwen2" => {
                Ok(Self { normalizer: Some(NFC.into()), shrinks: NFC_SHRINKS, ..plain(by(QWEN2)?) })
            }
            _ => Err(TokenizerError::Unsupported {
                key: KEY,
                found: name.into(),
                supported: SUPPORTED,
            }),
        }
    }
}

fn by(expression: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let pattern = SplitPattern::Regex(expression.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map_err(|error| TokenizerError::Vocabulary(error.to_string()))?;
    // Bytes only: the cutting is done.
    Ok(sequence(vec![split.into(), ByteLevel::new(false, false, false).into()]))
}

fn gpt2() -> PreTokenizerWrapper {
    ByteLevel::new(false, false, true).into()
}

fn sequence(parts: Vec<PreTokenizerWrapper>) -> PreTokenizerWrapper {
    Sequence::new(parts).into()
}
