use super::*;
use crate::{GgufWriter, TensorType, Value};
use estafette_fuzzing::drive;

#[test]
fn files() {
    let mut writer = GgufWriter::default();
    writer.key("general.architecture", &Value::Text("llama".into()));
    writer.key("llama.block_count", &Value::Integer(2));
    writer.key("llama.rope.freq_base", &Value::Float(1e4));
    let texts = ["a", "b"].map(|text| Value::Text(text.into())).to_vec();
    writer.key("tokenizer.ggml.tokens", &Value::List(texts));
    writer.key("tokenizer.ggml.types", &Value::List(vec![Value::Integer(1); 3]));
    writer.tensor("x.weight", &[2, 4], TensorType::F32, vec![0; 32]);
    writer.tensor("y.weight", &[32], TensorType::Q8_0, vec![0; 34]);
    let small = writer.finish();
    let empty = GgufWriter::default().finish();
    drive(file, 10, &[&small, &empty, b"GGUF\x03\0\0\0"]);
}
