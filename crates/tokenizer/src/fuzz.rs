//! Entry points of the fuzzers: texts of clients, and the templates of model files.

use crate::{ChatMessage, ChatRequest, Detokenizer, StopMatcher, Tokenizer};
use estafette_gguf::{GgufFile, Value, tiny::tiny_llama_with};
use estafette_types::TokenId;
use serde_json::Map;
use std::sync::{Arc, OnceLock};

/// Splits of the files that can be read.
const SPLITS: [&str; 4] = ["smollm", "gpt-2", "llama-bpe", "qwen2"];

/// The one that writes combined characters as one first, so that its text need not be the client's byte for byte.
const NORMALISING: &str = "qwen2";

/// One tokenizer for each split; none when the tiny file cannot be read, which the tests of this crate would find.
fn tokenizers() -> &'static [Arc<Tokenizer>] {
    static ALL: OnceLock<Vec<Arc<Tokenizer>>> = OnceLock::new();
    ALL.get_or_init(|| SPLITS.iter().filter_map(|split| tokenizer(split)).collect())
}

fn tokenizer(split: &str) -> Option<Arc<Tokenizer>> {
    let split = ("tokenizer.ggml.pre", Value::Text(split.into()));
    let file = GgufFile::from_bytes(tiny_llama_with(1, &[split], &[])).ok()?;
    Tokenizer::from_gguf(&file).ok().map(Arc::new)
}

/// A text, read by every split: nothing of it is lost, and nothing in it is more than text unless it is meant to be.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (tokenizer, split) in tokenizers().iter().zip(SPLITS) {
        let Ok(plain) = tokenizer.encode_plain(&text) else { continue };
        assert!(plain.iter().all(|id| !tokenizer.is_special(*id)));
        let shown = tokenizer.decode(&plain, true);
        pieces(tokenizer, &plain, &shown);
        if split == NORMALISING {
            continue;
        }
        assert_eq!(shown, text);
        let Ok(tokens) = tokenizer.encode(&text) else { continue };
        assert!(tokens.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        // Some models begin every text with a token of their own.
        assert!(tokenizer.decode(&tokens, false).ends_with(&*text));
    }
}

/// Token by token it is the same text, and stop strings are found where they are.
fn pieces(tokenizer: &Arc<Tokenizer>, tokens: &[TokenId], text: &str) {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), true);
    let mut whole: String = tokens.iter().map(|id| detokenizer.push(*id)).collect();
    whole.push_str(&detokenizer.finish());
    assert_eq!(whole, text);
    let stop: String = text.chars().skip(1).take(2).collect();
    if !stop.is_empty() {
        let mut matcher = StopMatcher::new(vec![stop.clone()]);
        let outcome = matcher.push(text);
        assert_eq!(outcome.stopped, text.contains(&stop));
        assert!(text.starts_with(&outcome.text));
    }
}

/// Messages of a conversation, one a line: none can end its own turn or begin another.
pub fn conversation(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let role = |i: usize| ["system", "user", "assistant"][i % 3].to_owned();
    let message = |(i, line): (usize, &str)| ChatMessage { role: role(i), content: line.into() };
    let messages: Vec<_> = text.lines().enumerate().map(message).collect();
    let honest = |message: &ChatMessage| ChatMessage { content: "x".into(), ..message.clone() };
    let honest: Vec<_> = messages.iter().map(honest).collect();
    for tokenizer in tokenizers() {
        assert_eq!(controls(tokenizer, &messages), controls(tokenizer, &honest), "{text:?}");
    }
}

/// The control tokens of a conversation.
fn controls(tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Option<Vec<TokenId>> {
    let chat = ChatRequest { messages, add_generation_prompt: true, variables: &Map::new() };
    let tokens = tokenizer.encode_chat(&chat).ok()?;
    Some(tokens.into_iter().filter(|id| tokenizer.is_special(*id)).collect())
}

/// A chat template, which comes with the model file.
pub fn template(bytes: &[u8]) {
    let template = Value::Text(String::from_utf8_lossy(bytes).into());
    let file = tiny_llama_with(1, &[("tokenizer.chat_template", template)], &[]);
    let Ok(file) = GgufFile::from_bytes(file) else { return };
    let Ok(tokenizer) = Tokenizer::from_gguf(&file) else { return };
    let messages = [ChatMessage { role: "user".into(), content: "hi".into() }];
    controls(&tokenizer, &messages);
}

#[cfg(test)]
mod tests;
