//! Command lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_config::fuzz::flags(bytes));
