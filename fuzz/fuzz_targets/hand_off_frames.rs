//! Frames of the KV hand-off.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_kv_transfer::fuzz::hand_off_frames(bytes));
