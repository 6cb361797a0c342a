//! Authorization headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_security::fuzz::authorization(bytes));
