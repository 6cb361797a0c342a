//! Bodies of /v1/completions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_router::fuzz::completion_body(bytes));
