//! Bodies of /tokenize and /detokenize.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_router::fuzz::token_body(bytes));
