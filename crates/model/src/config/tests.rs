use super::*;
use estafette_gguf::tiny::tiny_llama_with;
use estafette_gguf::{GgufWriter, tiny::tiny_llama};
use proptest::prelude::*;

#[test]
fn the_tiny_model_is_understood() {
    let file = GgufFile::from_bytes(tiny_llama(1)).unwrap();
    let config = ModelConfig::from_gguf(&file).unwrap();
    assert_eq!((config.num_layers, config.hidden, config.heads, config.kv_heads), (2, 64, 4, 2));
    assert_eq!((config.head_dim, config.rope_dim, config.vocab_size), (16, 16, 258));
}

#[test]
fn what_is_missing_or_unsupported_is_named() {
    let error = |architecture: &str| {
        let mut writer = GgufWriter::default();
        writer.key("general.architecture", &Value::Text(architecture.into()));
        let file = GgufFile::from_bytes(writer.finish()).unwrap();
        ModelConfig::from_gguf(&file).unwrap_err().to_string()
    };
    assert_eq!(error("mamba"), "architecture `mamba` is not supported, only llama");
    assert_eq!(error("llama"), "metadata `llama.embedding_length`: is missing");
}

#[test]
fn heads_that_are_too_small_are_refused() {
    let error = |keys: &[(&str, i128)]| {
        let keys: Vec<_> = keys.iter().map(|(key, n)| (*key, Value::Integer(*n))).collect();
        let file = GgufFile::from_bytes(tiny_llama_with(1, &keys, &[])).unwrap();
        ModelConfig::from_gguf(&file).unwrap_err().to_string()
    };
    let expected = "metadata `llama.attention.key_length`: heads must have 16, 32, … 256 elements";
    // More heads than elements: none is left for a head.
    assert_eq!(error(&[("llama.attention.head_count", 128)]), expected);
    for size in [1, 8, 24, 272] {
        assert_eq!(error(&[("llama.attention.key_length", size)]), expected);
    }
}

#[test]
fn keys_that_would_change_the_answer_are_refused() {
    let load = |key: &str, value| {
        let file = GgufFile::from_bytes(tiny_llama_with(1, &[(key, value)], &[])).unwrap();
        ModelConfig::from_gguf(&file).map_err(|error| error.to_string())
    };
    for (key, value, problem) in [
        ("rope.scaling.factor", Value::Float(4.0), "4 is not supported"),
        ("rope.scale_linear", Value::Float(0.5), "0.5 is not supported"),
        ("rope.scaling.type", Value::Text("yarn".into()), "Text(\"yarn\") is not supported"),
        ("expert_count", Value::Integer(8), "8 is not supported"),
        ("attention.value_length", Value::Integer(32), "must be that of the keys"),
    ] {
        let key = format!("llama.{key}");
        assert_eq!(load(&key, value).unwrap_err(), format!("metadata `{key}`: {problem}"));
    }
    for neutral in [0.0, 1.0] {
        load("llama.rope.scaling.factor", Value::Float(neutral)).unwrap();
        load("llama.rope.scale_linear", Value::Float(neutral)).unwrap();
    }
    load("llama.rope.scaling.type", Value::Text("none".into())).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_bytes_never_panic(at in 0..2500usize, value in any::<u8>()) {
        let mut bytes = tiny_llama(1);
        bytes[at] = value;
        if let Ok(file) = GgufFile::from_bytes(bytes) {
            let _ = ModelConfig::from_gguf(&file);
        }
    }
}
