//! Requests for streamed chat answers with everything in them that an interruption could change.

use crate::cluster::chat_body;
use serde_json::{Value, json};

/// A request for exactly `max_tokens` tokens, sampled with every part of the sampler at work.
pub fn sampled(content: &str, seed: u64, max_tokens: u64) -> Value {
    let options = json!({
        "max_tokens": max_tokens, "ignore_eos": true, "temperature": 0.9, "seed": seed, "top_p": 0.95,
        "presence_penalty": 0.4, "frequency_penalty": 0.3, "repetition_penalty": 1.1,
        "logprobs": true, "top_logprobs": 2,
        "stream": true, "stream_options": { "include_usage": true },
    });
    chat_body(content, &options)
}
