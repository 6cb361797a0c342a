use super::*;
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
