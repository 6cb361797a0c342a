//! A model on one backend, one sequence at a time, with the logits of any row.

use estafette_engine::{BLOCK_SIZE, CpuBackend};
use estafette_gguf::GgufFile;
use estafette_integration_tests::model;
use estafette_kernels::{KvCache, KvLayout, Tier};
use estafette_model::{Backend, Batch, BatchSequence, Model, ModelConfig, ReferenceBackend, Room};
use estafette_types::{BlockId, TokenId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rows of one step; longer sequences run in several.
const CHUNK: usize = 256;
/// Tokens of the longest sequence.
const LONGEST: usize = 1024;
const BLOCKS: u32 = LONGEST as u32 / BLOCK_SIZE;

pub(crate) struct Runner<B: Backend> {
    backend: B,
    model: Model<B>,
    cache: B::Cache,
    _cores: MutexGuard<'static, ()>,
}

/// Each runner wants every core: together they would only wait for each other.
static CORES: Mutex<()> = Mutex::new(());

impl Runner<ReferenceBackend> {
    /// Plain f32.
    pub(crate) fn reference() -> Self {
        let cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, config) = open();
        let mut backend = ReferenceBackend;
        let model = Model::load(&file, &config, &mut backend, ROOM).unwrap();
        let width = config.kv_heads * config.head_dim;
        let cache =
            backend.new_cache(config.num_layers, BLOCKS as usize, BLOCK_SIZE as usize, width);
        Self { backend, model, cache, _cores: cores }
    }
}

impl Runner<CpuBackend> {
    /// The best kernels that this processor has.
    pub(crate) fn cpu() -> Self {
        let cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, config) = open();
        let mut backend = CpuBackend::new(Tier::detect(), estafette_config::available_threads());
        let model = Model::load(&file, &config, &mut backend, ROOM).unwrap();
        let layout = KvLayout {
            num_blocks: BLOCKS,
            block_size: BLOCK_SIZE,
            layers: config.num_layers as u32,
            kv_heads: config.kv_heads as u32,
            head_dim: config.head_dim as u32,
        };
        let cache = KvCache::new(layout, false).unwrap();
        Self { backend, model, cache, _cores: cores }
    }
}

const ROOM: Room = Room { rows: CHUNK, logit_rows: CHUNK };

fn open() -> (GgufFile, ModelConfig) {
    let file = GgufFile::open(&model::real()).unwrap();
    let config = ModelConfig::from_gguf(&file).unwrap();
    (file, config)
}

impl<B: Backend> Runner<B> {
    /// Runs `ids` as a sequence of its own and calls `see(position, logits)` for the wanted positions, in order.
    pub(crate) fn run(
        &mut self,
        ids: &[TokenId],
        wanted: impl Fn(usize) -> bool,
        mut see: impl FnMut(usize, &[f32]),
    ) {
        assert!(ids.len() <= LONGEST);
        for (i, chunk) in ids.chunks(CHUNK).enumerate() {
            let start = i * CHUNK;
            let batch = batch(chunk, start, &wanted);
            self.model.forward(&mut self.backend, &batch, &mut self.cache, &mut |_| {});
            if batch.logit_rows.is_empty() {
                continue;
            }
            let logits = self.backend.read(self.model.logits());
            let width = logits.len() / batch.logit_rows.len();
            for (row, logits) in batch.logit_rows.iter().zip(logits.chunks_exact(width)) {
                see(start + row, logits);
            }
        }
    }
}

/// One chunk of one sequence. Its blocks lie in the pool in falling order, so that no order is taken for granted.
fn batch(tokens: &[TokenId], start: usize, wanted: &impl Fn(usize) -> bool) -> Batch {
    let block = |i: u32| BlockId(BLOCKS - 1 - i);
    let positions: Vec<u32> = (start as u32..).take(tokens.len()).collect();
    let slot = |p: &u32| block(p / BLOCK_SIZE).0 * BLOCK_SIZE + p % BLOCK_SIZE;
    let end = (start + tokens.len()) as u32;
    Batch {
        tokens: tokens.to_vec(),
        slots: positions.iter().map(slot).collect(),
        sequences: vec![BatchSequence {
            rows: 0..tokens.len(),
            start: start as u32,
            block_table: (0..end.div_ceil(BLOCK_SIZE)).map(block).collect(),
        }],
        logit_rows: (0..tokens.len()).filter(|row| wanted(start + row)).collect(),
        positions,
    }
}
