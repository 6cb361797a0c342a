//! The tokenizer of one model.

use crate::chat::{ChatRequest, ChatTemplate};
use crate::error::TokenizerError;
use crate::merger::Merger;
use crate::pre_tokenizer::Preparation;
use crate::special::{Segment, Specials};
use crate::vocabulary::{Kind, Vocabulary};
use estafette_gguf::GgufFile;
use estafette_types::TokenId;
use std::borrow::Cow;

/// Text to tokens and back. Shared by all requests; nothing in it changes.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    merger: Merger,
    specials: Specials,
    template: Option<ChatTemplate>,
    longest_token_bytes: usize,
}

impl Tokenizer {
    /// Reads vocabulary and chat template.
    ///
    /// # Errors
    /// When they are damaged or of a kind that is not supported.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        const MODEL: &str = "tokenizer.ggml.model";
        let model = file.text(MODEL)?;
        if model != "gpt2" {
            return Err(TokenizerError::Unsupported {
                key: MODEL,
                found: model.into(),
                supported: "gpt2 (byte-level BPE)",
            });
        }
        let pre = match file.value("tokenizer.ggml.pre") {
            None => "default",
            Some(_) => file.text("tokenizer.ggml.pre")?,
        };
        let preparation = Preparation::named(pre)?;
        let shrinks = preparation.shrinks;
        let mut vocabulary = Vocabulary::read(file, preparation.bos_by_default)?;
        let longest = vocabulary.bytes.iter().map(Vec::len).max().unwrap_or(0);
        let merger = Merger::new(&mut vocabulary, preparation)?;
        let specials = specials(&vocabulary)?;
        const TEMPLATE: &str = "tokenizer.chat_template";
        let template = match file.value(TEMPLATE) {
            None => None,
            Some(_) => {
                let (bos, eos) = (&vocabulary.bos_text, &vocabulary.eos_text);
                Some(ChatTemplate::new(file.text(TEMPLATE)?, bos, eos)?)
            }
        };
        let longest_token_bytes = longest * shrinks;
        Ok(Self { vocabulary, merger, specials, template, longest_token_bytes })
    }

    /// Tokens of `text`; special tokens in it are recognised.
    ///
    /// # Errors
    /// When the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens: Vec<TokenId> = self.vocabulary.bos.into_iter().collect();
        self.encode_segments(text, None, &mut tokens)?;
        Ok(tokens)
    }

    /// Tokens of `text`, all of it ordinary.
    ///
    /// # Errors
    /// When the library refuses the text.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens = Vec::new();
        self.merger.encode(text, &mut tokens)?;
        Ok(tokens)
    }

    /// The conversation as the model's template writes it.
    ///
    /// # Errors
    /// When there is no template, or it refuses the conversation.
    pub fn render_chat(&self, chat: &ChatRequest<'_>) -> Result<String, TokenizerError> {
        self.template.as_ref().ok_or(TokenizerError::NoChatTemplate)?.render(chat)
    }

    /// Tokens of the conversation. Nothing in a message's text becomes a special token: such text is broken by a mark
    /// before it is rendered, and mended before it is encoded.
    ///
    /// # Errors
    /// When there is no template, or it refuses the conversation.
    pub fn encode_chat(&self, chat: &ChatRequest<'_>) -> Result<Vec<TokenId>, TokenizerError> {
        let mark = self.specials.mark_for(&chat.texts());
        let rendered = match mark {
            None => self.render_chat(chat)?,
            Some(mark) => {
                let broken = chat.map_texts(&|text| self.specials.broken(text, mark));
                self.render_chat(&broken.as_request())?
            }
        };
        let mut tokens = Vec::new();
        self.encode_segments(&rendered, mark, &mut tokens)?;
        Ok(tokens)
    }

    fn encode_segments(
        &self,
        text: &str,
        mark: Option<char>,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        for segment in self.specials.split(text, mark) {
            match segment {
                Segment::Special(id) => tokens.push(id),
                Segment::Plain(text) => {
                    let whole = match mark {
                        Some(mark) => Cow::Owned(text.replace(mark, "")),
                        None => Cow::Borrowed(text),
                    };
                    self.merger.encode(&whole, tokens)?;
                }
            }
        }
        Ok(())
    }

    /// Tokens in the vocabulary; ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Bytes of text that one token stands for at most: no text has fewer tokens than its bytes divided by this.
    pub fn longest_token_bytes(&self) -> usize {
        self.longest_token_bytes
    }

    /// Sampling one of these ends an answer.
    pub fn stop_token_ids(&self) -> &[TokenId] {
        &self.vocabulary.stops
    }

    /// Whether `id` is never part of text.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.vocabulary.kinds.get(id as usize) == Some(&Kind::Control)
    }

    /// The bytes that `id` stands for; none for ids outside the vocabulary.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.vocabulary.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// The text that `id` stands for; bytes that are no text alone are replaced.
    pub fn token_text(&self, id: TokenId) -> String {
        String::from_utf8_lossy(self.token_bytes(id)).into_owned()
    }

    /// The text of `ids`.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> String {
        let shown = ids.iter().filter(|id| !(skip_special && self.is_special(**id)));
        let bytes: Vec<u8> = shown.flat_map(|id| self.token_bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn specials(vocabulary: &Vocabulary) -> Result<Specials, TokenizerError> {
    let tokens: Vec<(&str, TokenId)> = (0..)
        .zip(&vocabulary.kinds)
        .zip(&vocabulary.bytes)
        .filter(|((_, kind), _)| **kind != Kind::Normal)
        .filter_map(|((id, _), bytes)| std::str::from_utf8(bytes).ok().map(|text| (text, id)))
        .collect();
    Specials::new(&tokens).map_err(|error| TokenizerError::Vocabulary(error.to_string()))
}

#[cfg(test)]
mod tests;
