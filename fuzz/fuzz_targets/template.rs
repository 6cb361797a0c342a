//! Chat templates of model files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_tokenizer::fuzz::template(bytes));
