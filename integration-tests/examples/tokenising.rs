//! What tokenising the prompts of `router_load` costs, in this process alone: `tokenising MODEL PROMPT_WORDS`, one JSON line.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a tool for measurements"
)]

use estafette_gguf::GgufFile;
use estafette_integration_tests::story::story;
use estafette_tokenizer::Tokenizer;
use std::path::Path;
use std::time::Instant;

/// Texts of one round, all different.
const TEXTS: u64 = 200;
/// The first one warms up; of the others the quickest counts.
const ROUNDS: usize = 6;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, words] = &args[..] else { panic!("MODEL PROMPT_WORDS") };
    let words = words.parse().unwrap();
    let tokenizer = Tokenizer::from_gguf(&GgufFile::open(Path::new(model)).unwrap()).unwrap();
    let texts: Vec<String> = (0..TEXTS).map(|number| story(number, words)).collect();
    let round = || {
        let began = Instant::now();
        let tokens: usize = texts.iter().map(|text| tokenizer.encode(text).unwrap().len()).sum();
        (began.elapsed().as_secs_f64() * 1e6 / TEXTS as f64, tokens as u64 / TEXTS)
    };
    let rounds: Vec<(f64, u64)> = (0..ROUNDS).map(|_| round()).collect();
    let quickest = rounds[1..].iter().map(|(micros, _)| *micros).fold(f64::INFINITY, f64::min);
    let tokens = rounds[0].1;
    println!("{{\"prompt_tokens\": {tokens}, \"us\": {quickest:.1}}}");
}
