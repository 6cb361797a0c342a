//! From plain text to tokens: the text is prepared, cut into words, and in each word pairs are merged.
//!
//! The `tokenizers` crate can do all of it, and does for most vocabularies. Where the expression is GPT-2's, words are cut
//! here, and those that are a token, most words of a text, are looked up; the library merges the others. The tokens are
//! the same.
#![expect(
    clippy::disallowed_types,
    reason = "a map that is only looked up in has no order that matters"
)]

use crate::bytes::char_of;
use crate::error::TokenizerError;
use crate::pre_tokenizer::Preparation;
use crate::vocabulary::{Kind, Vocabulary};
use crate::words::Cutter;
use estafette_types::TokenId;
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerImpl,
};

/// Words whose tokens each thread remembers: no lock, and nothing is ever dropped. Words chosen to fill it take 32 MB of a
/// thread.
const CACHED_WORDS: usize = 4000;

type Library = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// Knows no special token, so that no plain text can become one.
#[derive(Debug)]
pub(crate) struct Merger {
    library: Library,
    fast: Option<Fast>,
}

/// What goes without the library.
#[derive(Debug)]
struct Fast {
    cutter: Cutter,
    /// Words that merging turns into one token. Fixed, so it needs no lock and no bound.
    whole: HashMap<Box<[u8]>, TokenId>,
    /// How the vocabulary writes each byte.
    chars: [char; 256],
}

impl Merger {
    /// Takes texts and merges out of `vocabulary`.
    ///
    /// # Errors
    /// When they do not fit together.
    pub(crate) fn new(
        vocabulary: &mut Vocabulary,
        preparation: Preparation,
    ) -> Result<Self, TokenizerError> {
        let ids: tokenizers::models::bpe::Vocab = (0..)
            .zip(vocabulary.texts.drain(..))
            .zip(&vocabulary.kinds)
            .filter(|(_, kind)| **kind == Kind::Normal)
            .map(|((id, text), _)| (text, id))
            .collect();
        let mut bpe = BPE::builder()
            .vocab_and_merges(ids, std::mem::take(&mut vocabulary.merges))
            .ignore_merges(preparation.ignore_merges)
            // The words that are tried first will not be asked for again.
            .cache_capacity(1)
            .build()
            .map_err(damaged)?;
        let cutter = preparation.gpt2_digits.map(Cutter::new).transpose()?;
        let fast = cutter.map(|cutter| Fast::new(cutter, vocabulary, &bpe)).transpose()?;
        bpe.resize_cache(CACHED_WORDS);
        let mut library = Library::new(bpe);
        library.with_pre_tokenizer(Some(preparation.pre_tokenizer));
        library.with_normalizer(preparation.normalizer).map_err(damaged)?;
        Ok(Self { library, fast })
    }

    /// Adds the tokens of `text` to `tokens`.
    ///
    /// # Errors
    /// When the library refuses the text.
    pub(crate) fn encode(
        &self,
        text: &str,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        match &self.fast {
            Some(fast) => fast.encode(text, self.library.get_model(), tokens),
            None => self.encode_by_library(text, tokens),
        }
    }

    fn encode_by_library(
        &self,
        text: &str,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        let encoding = self.library.encode_fast(text, false).map_err(refused)?;
        tokens.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

impl Fast {
    fn new(cutter: Cutter, vocabulary: &Vocabulary, bpe: &BPE) -> Result<Self, TokenizerError> {
        let chars = std::array::from_fn(|byte| char_of(byte as u8));
        let mut fast = Self { cutter, whole: HashMap::new(), chars };
        for bytes in &vocabulary.bytes {
            // A token that merging does not lead to, or to others first, is no word.
            if let [token] = &bpe.tokenize(&fast.written(bytes)).map_err(refused)?[..] {
                fast.whole.insert(bytes.as_slice().into(), token.id);
            }
        }
        Ok(fast)
    }

    fn encode(
        &self,
        text: &str,
        bpe: &BPE,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        for word in self.cutter.words(text) {
            match self.whole.get(word.as_bytes()) {
                Some(id) => tokens.push(*id),
                None => {
                    let parts = bpe.tokenize(&self.written(word.as_bytes())).map_err(refused)?;
                    tokens.extend(parts.iter().map(|token| token.id));
                }
            }
        }
        Ok(())
    }

    /// `bytes` as the vocabulary writes them.
    fn written(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|byte| self.chars[usize::from(*byte)]).collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn damaged(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Vocabulary(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn refused(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Encode(error.to_string())
}

#[cfg(test)]
mod tests;
