//! The files in `integration-tests/reference/data`; their README says what is in them.

use estafette_tokenizer::ChatMessage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

#[derive(Deserialize)]
pub(crate) struct Tokenization {
    pub(crate) texts: Vec<TokenizedText>,
}

#[derive(Deserialize)]
pub(crate) struct TokenizedText {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) plain_ids: Option<Vec<u32>>,
    pub(crate) decoded: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Chat {
    pub(crate) cases: Vec<ChatCase>,
}

#[derive(Deserialize)]
pub(crate) struct ChatCase {
    pub(crate) name: String,
    pub(crate) messages: Vec<ChatMessage>,
    pub(crate) add_generation_prompt: bool,
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) safe_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
pub(crate) struct Logits {
    pub(crate) sample_ids: Vec<usize>,
    pub(crate) prompts: Vec<LogitPrompt>,
}

#[derive(Deserialize)]
pub(crate) struct LogitPrompt {
    pub(crate) name: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) noise: Noise,
    pub(crate) rows: Vec<LogitRow>,
}

#[derive(Deserialize)]
pub(crate) struct Noise {
    pub(crate) f64: Distance,
}

#[derive(Deserialize)]
pub(crate) struct Distance {
    pub(crate) max: f64,
}

#[derive(Deserialize)]
pub(crate) struct LogitRow {
    pub(crate) position: usize,
    pub(crate) top_ids: Vec<usize>,
    pub(crate) top_logits: Vec<f32>,
    pub(crate) sample_logits: Vec<f32>,
    pub(crate) logsumexp: f64,
    pub(crate) mean: f64,
}

#[derive(Deserialize)]
pub(crate) struct Greedy {
    pub(crate) prompts: Vec<GreedyPrompt>,
}

#[derive(Deserialize)]
pub(crate) struct GreedyPrompt {
    pub(crate) name: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) continuation: Vec<u32>,
    pub(crate) second: Vec<u32>,
    pub(crate) margins: Vec<f32>,
}

#[derive(Deserialize)]
pub(crate) struct Perplexity {
    pub(crate) window: usize,
    pub(crate) tokens: usize,
    pub(crate) scored: usize,
    pub(crate) perplexity: f64,
}

/// Reads `data/NAME.json`.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(folder().join(format!("data/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The text whose perplexity is known.
pub(crate) fn corpus() -> String {
    std::fs::read_to_string(folder().join("corpus.txt")).unwrap()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference")
}
