//! Tiny random models for tests: whole GGUF files with a byte-level vocabulary, from a seed.

use crate::file::Value;
use crate::tensor_type::TensorType;
use crate::writer::GgufWriter;
use estafette_types::SplitMix64;

/// A Llama with 2 layers, width 64, 4 query heads on 2 KV heads of 16, and 258 tokens: every byte and two control tokens.
pub fn tiny_llama(seed: u64) -> Vec<u8> {
    tiny_llama_with(seed, &[], &[])
}

/// A tensor as [`GgufWriter::tensor`] takes it.
pub type Tensor<'a> = (&'a str, &'a [u64], TensorType, Vec<u8>);

/// The same with other keys, which take the place of its own, and more tensors.
pub fn tiny_llama_with(seed: u64, keys: &[(&str, Value)], tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut writer = GgufWriter::default();
    let integer = |n: i128| Value::Integer(n);
    writer.key("general.architecture", &Value::Text("llama".into()));
    writer.key("general.name", &Value::Text("tiny".into()));
    for (key, n) in [
        ("block_count", 2),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("context_length", 256),
    ] {
        writer.key(&format!("llama.{key}"), &integer(n));
    }
    writer.key("llama.attention.layer_norm_rms_epsilon", &Value::Float(1e-5));
    tokenizer_keys(&mut writer);
    let mut rng = SplitMix64::new(seed);
    put_matrix(&mut writer, &mut rng, "token_embd.weight", &[258, 64]);
    put_matrix(&mut writer, &mut rng, "output_norm.weight", &[64]);
    for layer in 0..2 {
        for (name, dims) in [
            ("attn_norm", &[64u64][..]),
            ("attn_q", &[64, 64]),
            ("attn_k", &[32, 64]),
            ("attn_v", &[32, 64]),
            ("attn_output", &[64, 64]),
            ("ffn_norm", &[64]),
            ("ffn_gate", &[96, 64]),
            ("ffn_up", &[96, 64]),
            ("ffn_down", &[64, 96]),
        ] {
            put_matrix(&mut writer, &mut rng, &format!("blk.{layer}.{name}.weight"), dims);
        }
    }
    for (key, value) in keys {
        writer.set_key(key, value);
    }
    for (name, dims, ty, data) in tensors {
        writer.tensor(name, dims, *ty, data.clone());
    }
    writer.finish()
}

/// Norms near 1, matrices of a size that keeps activations near 1: nothing may vanish, or a mistake could hide in it.
fn put_matrix(writer: &mut GgufWriter, rng: &mut SplitMix64, name: &str, dims: &[u64]) {
    let count: u64 = dims.iter().product();
    let norm = dims.len() == 1;
    let scale = if norm { 0.2 } else { 2.0 / (dims[dims.len() - 1] as f32).sqrt() };
    let data = (0..count).flat_map(|_| {
        let uniform = rng.below(20_001) as f32 / 10_000.0 - 1.0;
        (uniform * scale + if norm { 1.0 } else { 0.0 }).to_le_bytes()
    });
    writer.tensor(name, dims, TensorType::F32, data.collect());
}

/// GPT-2's way to write bytes as printable characters.
fn byte_token(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + rank).unwrap_or('\u{fffd}')
}

fn tokenizer_keys(writer: &mut GgufWriter) {
    let texts = |list: Vec<String>| Value::List(list.into_iter().map(Value::Text).collect());
    let mut tokens = vec!["<|im_start|>".to_owned(), "<|im_end|>".to_owned()];
    tokens.extend((0..=255).map(|byte| byte_token(byte).to_string()));
    let types = (0..258).map(|i| Value::Integer(if i < 2 { 3 } else { 1 })).collect();
    writer.key("tokenizer.ggml.model", &Value::Text("gpt2".into()));
    writer.key("tokenizer.ggml.pre", &Value::Text("smollm".into()));
    writer.key("tokenizer.ggml.tokens", &texts(tokens));
    writer.key("tokenizer.ggml.token_type", &Value::List(types));
    writer.key("tokenizer.ggml.merges", &texts(Vec::new()));
    writer.key("tokenizer.ggml.bos_token_id", &Value::Integer(0));
    writer.key("tokenizer.ggml.eos_token_id", &Value::Integer(1));
    writer.key(
        "tokenizer.chat_template",
        &Value::Text(
            "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}\
             {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
                .into(),
        ),
    );
}
