//! gRPC messages between router and workers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estafette_proto::fuzz::conversions(bytes));
