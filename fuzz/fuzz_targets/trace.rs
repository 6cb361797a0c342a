//! Traces for the simulator.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_simulator::fuzz::trace(bytes));
