//! Bodies of /v1/chat/completions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_router::fuzz::chat_body(bytes));
