//! Text from tokens as they come: what was shown is never taken back.

use crate::tokenizer::Tokenizer;
use estafette_types::TokenId;
use std::sync::Arc;

/// Holds back the bytes of a character that is not complete.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    held: Vec<u8>,
}

impl Detokenizer {
    /// At the start of an answer. `skip_special`: control tokens have no text.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, held: Vec::new() }
    }

    /// The text that `id` completes. Bytes that can never become text are replaced, as `String::from_utf8_lossy` does.
    pub fn push(&mut self, id: TokenId) -> String {
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        self.held.extend_from_slice(self.tokenizer.token_bytes(id));
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[..valid]));
                    let Some(wrong) = error.error_len() else {
                        self.held.drain(..valid);
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..valid + wrong);
                }
            }
        }
    }

    /// What is still held; no token follows.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

#[cfg(test)]
mod tests;
