use super::*;
use estafette_fuzzing::drive;

const MOONCAKE: &[u8] =
    br#"{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 3000.5, "input_length": 10, "output_length": 0, "hash_ids": [4, 18446744073709551615]}"#;
const AZURE: &[u8] =
    b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-02-28 23:59:59.9799600,4808,10\r\n\
2023-03-01T00:00:01,3180,8\r\n";
const AGENT: &[u8] = br#"{"block_size": 64, "requests": [{"t": 0, "in": 130, "out": 5, "api_time": 4.0, "think_time": 0, "h": [[1, 2]]}, {"t": 30.0, "duration_ms": 25000, "requests": [{"t": 0, "in": 64, "out": 1, "h": [[7, 1]]}]}, {"t": 33.0, "in": 260, "out": 9, "h": [[1, 2], [5, 2]]}]}"#;

#[test]
fn traces() {
    let packed = |text: &[u8]| {
        let mut out = Vec::new();
        lzma_rs::xz_compress(&mut &text[..], &mut out).unwrap();
        out
    };
    let packed = packed(AZURE);
    drive(trace, 14, &[MOONCAKE, AZURE, AGENT, &packed]);
}

#[test]
fn files_of_step_times() {
    let preset = crate::preset(crate::DEFAULT_PRESET).unwrap();
    let text = serde_json::to_vec(&preset).unwrap();
    drive(step_times, 15, &[&text, b"{}"]);
}
