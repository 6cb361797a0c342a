//! Model files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_gguf::fuzz::file(bytes));
