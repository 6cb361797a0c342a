//! The start of a leg on a worker.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_worker::fuzz::leg_start(bytes));
