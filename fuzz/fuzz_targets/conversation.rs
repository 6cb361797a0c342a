//! Conversations of clients.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_tokenizer::fuzz::conversation(bytes));
