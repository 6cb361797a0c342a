//! Files of API keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_security::fuzz::key_file(bytes));
