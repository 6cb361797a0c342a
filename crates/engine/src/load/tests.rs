//! Files that are damaged or not supported, and pools that cannot be.

use super::*;
use crate::testing::cpu;
use estafette_gguf::tiny::{tiny_llama, tiny_llama_with};
use estafette_gguf::{GgufWriter, Value};
use proptest::prelude::*;

fn options(kv_bytes: u64) -> LoadOptions {
    LoadOptions { backend: cpu(Tier::detect(), 1), kv_bytes, max_rows: 32, max_seqs: 4 }
}

fn load_bytes(bytes: Vec<u8>, options: LoadOptions) -> Result<Loaded, LoadError> {
    load_file(Path::new("m.gguf"), &GgufFile::from_bytes(bytes).unwrap(), options)
}

fn error(bytes: Vec<u8>, options: LoadOptions) -> String {
    load_bytes(bytes, options).unwrap_err().to_string()
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/nowhere/model.gguf"), options(1)).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere/model.gguf: "), "{error}");
}

#[test]
fn a_damaged_file_is_named() {
    let path = std::env::temp_dir().join(format!("estafette-damaged-{}.gguf", std::process::id()));
    let load_cut = |len| {
        std::fs::write(&path, &tiny_llama(1)[..len]).unwrap();
        load(&path, options(1 << 20)).unwrap_err().to_string()
    };
    let (cut, empty) = (load_cut(100_000), load_cut(0));
    std::fs::remove_file(&path).unwrap();
    let name = path.display().to_string();
    assert!(cut.starts_with(&format!("{name}: the file is truncated: tensor `")), "{cut}");
    assert!(empty.starts_with(&format!("{name}: the file is truncated: ")), "{empty}");
}

#[test]
fn another_architecture_is_named() {
    let mut writer = GgufWriter::default();
    writer.key("general.architecture", &Value::Text("mamba".into()));
    assert_eq!(
        error(writer.finish(), options(1 << 20)),
        "m.gguf: architecture `mamba` is not supported, only llama"
    );
}

#[test]
fn a_pool_too_small_for_a_block_is_refused_and_a_large_one_counts_its_blocks() {
    let block = 16 * 2 * 2 * 2 * 2 * 16;
    let text = error(tiny_llama(1), options(block - 1));
    assert_eq!(text, format!("{} bytes for KV hold no block: one takes {block} bytes", block - 1));
    assert_eq!(load_bytes(tiny_llama(1), options(10 * block + 5)).unwrap().num_blocks, 10);
}

#[test]
fn memory_that_the_system_does_not_have_is_an_error() {
    let text = error(tiny_llama(1), options(1 << 60));
    assert!(text.starts_with("cannot get ") && text.contains(" bytes for KV blocks: "), "{text}");
    let rows = LoadOptions { max_rows: usize::MAX / 2, ..options(1 << 20) };
    let text = error(tiny_llama(1), rows);
    assert!(text.starts_with("m.gguf: no memory for "), "{text}");
}

#[test]
fn numerics_ids_tell_backends_apart_but_not_tiers() {
    let id = |backend| {
        let options = LoadOptions { backend, ..options(1 << 20) };
        load_bytes(tiny_llama(1), options).unwrap().executor.numerics_id()
    };
    assert_eq!(id(cpu(Tier::detect(), 2)), id(cpu(Tier::Portable, 1)));
    assert_ne!(id(cpu(Tier::detect(), 2)), id(BackendOptions::Reference));
}

#[test]
fn numerics_ids_name_the_sampler_and_the_rope_table() {
    let id = |keys: &[(&str, Value)]| {
        let bytes = tiny_llama_with(1, keys, &[]);
        load_bytes(bytes, options(1 << 20)).unwrap().executor.numerics_id()
    };
    let plain = id(&[]);
    assert!(plain.ends_with(sampler::VERSION), "{plain}");
    assert_ne!(id(&[("llama.rope.freq_base", Value::Float(10_001.0))]), plain);
}

#[test]
fn heads_of_no_elements_are_refused_before_anything_is_divided_by_them() {
    let keys = [("llama.attention.head_count", Value::Integer(128))];
    let text = error(tiny_llama_with(1, &keys, &[]), options(1 << 20));
    assert!(text.contains("`llama.attention.key_length`: heads must have 16"), "{text}");
}

#[test]
fn slots_of_the_largest_pool_fit_32_bits() {
    let file = GgufFile::from_bytes(tiny_llama(1)).unwrap();
    let config = ModelConfig::from_gguf(&file).unwrap();
    for bytes in [u64::MAX, 1 << 43] {
        let layout = kv_layout(&config, bytes).unwrap();
        assert!(layout.num_blocks.checked_mul(BLOCK_SIZE).is_some(), "{bytes}");
    }
}

#[test]
fn only_the_cpu_backend_has_a_pool_to_share() {
    let load = |backend| {
        load_bytes(tiny_llama(1), LoadOptions { backend, ..options(1 << 20) }).unwrap().executor
    };
    let shared = BackendOptions::Cpu { tier: Tier::detect(), threads: 1, shared_pool: true };
    assert!(load(shared).kv_pool().unwrap().memory.fd().is_some());
    assert!(load(cpu(Tier::detect(), 1)).kv_pool().unwrap().memory.fd().is_none());
    assert!(load(BackendOptions::Reference).kv_pool().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damaged_headers_never_panic(changes in prop::collection::vec((0..4000usize, any::<u8>()), 1..4)) {
        let mut bytes = tiny_llama(1);
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(file) = GgufFile::from_bytes(bytes) {
            drop(load_file(Path::new("m.gguf"), &file, options(1 << 20)));
        }
    }
}
