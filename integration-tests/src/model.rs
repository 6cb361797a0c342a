//! Models to test with.

use estafette_types::{BlockHash, HashSeed, SplitMix64, block_hashes};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Tokens in a block.
pub const BLOCK_SIZE: usize = 16;
/// Bytes of one block of the tiny model.
pub const TINY_BLOCK_BYTES: u64 = 4096;
/// Vocabulary of the tiny model.
pub const TINY_VOCAB: u64 = 258;

/// A file with the tiny model; the same for all tests, made once.
pub fn tiny() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let bytes = estafette_gguf::tiny::tiny_llama(7);
        let folder = std::env::temp_dir();
        let path = folder.join("estafette-tiny-7.gguf");
        if std::fs::read(&path).ok().as_deref() != Some(&bytes[..]) {
            // Another process may do the same at this moment.
            let draft = folder.join(format!("estafette-tiny-{}", std::process::id()));
            std::fs::write(&draft, bytes).expect("room for a tiny model");
            std::fs::rename(draft, &path).expect("the same folder");
        }
        path
    });
    path.clone()
}

/// The default model; `make model` fetches it.
pub fn real() -> PathBuf {
    estafette_config::model_path(None).expect("the default model")
}

/// `len` tokens below `vocab`, the same for the same `seed`.
pub fn prompt(seed: u64, len: usize, vocab: u64) -> Vec<u32> {
    let mut rng = SplitMix64::new(seed);
    (0..len).map(|_| rng.below(vocab) as u32).collect()
}

/// The hashes of a prompt's full blocks, as the router computes them.
pub fn hashes(model_digest: &[u8], prompt: &[u32]) -> Vec<BlockHash> {
    block_hashes(HashSeed::new(model_digest, "", ""), prompt, BLOCK_SIZE)
}
