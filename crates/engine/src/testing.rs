//! What the tests of this crate share: the two models, and a way to run requests through an engine.

use crate::engine::{Engine, EngineEvent, NoObserver};
use crate::load::{BLOCK_SIZE, BackendOptions, LoadOptions, Loaded, load_file};
use estafette_gguf::GgufFile;
use estafette_kernels::Tier;
use estafette_scheduler::{Mode, NewSequence, Scheduler, SchedulerConfig};
use estafette_types::{
    HashSeed, Limits, SamplingParams, SequenceId, TokenId, TokenLogprob, Usage, block_hashes,
};
use std::collections::BTreeMap;
use std::path::Path;

/// The default model; `cargo xtask model` gets it.
pub(crate) fn real_model() -> GgufFile {
    GgufFile::open(&estafette_config::model_path(None).unwrap()).unwrap()
}

/// Two layers of random weights.
pub(crate) fn tiny_model() -> GgufFile {
    GgufFile::from_bytes(estafette_gguf::tiny::tiny_llama(3)).unwrap()
}

pub(crate) fn cpu(tier: Tier, threads: usize) -> BackendOptions {
    BackendOptions::Cpu { tier, threads, shared_pool: false }
}

pub(crate) fn tiers() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|tier| tier.is_supported())
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) prompt: Vec<TokenId>,
    /// The beginning of the answer, from elsewhere.
    pub(crate) output: Vec<TokenId>,
    pub(crate) params: SamplingParams,
    pub(crate) max_tokens: u32,
    pub(crate) stop_token_ids: Vec<TokenId>,
}

impl Request {
    pub(crate) fn greedy(prompt: &[TokenId], max_tokens: u32) -> Self {
        let params = SamplingParams { logprobs: Some(2), ..SamplingParams::greedy() };
        Self::new(prompt, params, max_tokens)
    }

    fn new(prompt: &[TokenId], params: SamplingParams, max_tokens: u32) -> Self {
        let (output, stop_token_ids) = (Vec::new(), Vec::new());
        Self { prompt: prompt.to_vec(), output, params, max_tokens, stop_token_ids }
    }

    /// Draws with every filter and penalty at work.
    pub(crate) fn drawn(prompt: &[TokenId], max_tokens: u32, seed: u64) -> Self {
        let params = SamplingParams {
            temperature: 0.9,
            top_p: 0.95,
            min_p: 0.01,
            repetition_penalty: 1.1,
            presence_penalty: 0.2,
            frequency_penalty: 0.1,
            seed,
            logprobs: Some(0),
            ..SamplingParams::default()
        };
        Self::new(prompt, params, max_tokens)
    }
}

/// What comes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<(TokenId, Option<TokenLogprob>)>,
    pub(crate) usage: Usage,
}

/// The tokens and their log-probabilities alone.
pub(crate) fn tokens(answers: &[Answer]) -> Vec<&[(TokenId, Option<TokenLogprob>)]> {
    answers.iter().map(|answer| answer.tokens.as_slice()).collect()
}

/// An engine whose scheduler can be changed between runs.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) num_blocks: u32,
    seed: HashSeed,
    next_id: u64,
}

impl Rig {
    /// `kv_blocks` blocks of the pool, steps of up to `chunk` rows.
    pub(crate) fn new(
        model: &GgufFile,
        backend: BackendOptions,
        kv_blocks: u32,
        chunk: u32,
    ) -> Self {
        let config = estafette_model::ModelConfig::from_gguf(model).unwrap();
        let block = 2 * 2 * 16 * config.num_layers * config.kv_heads * config.head_dim;
        let kv_bytes = u64::from(kv_blocks) * block as u64;
        let options = LoadOptions { backend, kv_bytes, max_rows: chunk as usize, max_seqs: 16 };
        let Loaded { executor, digest, num_blocks, .. } =
            load_file(Path::new("test"), model, options).unwrap();
        assert_eq!(num_blocks, kv_blocks);
        let engine = Engine::new(scheduler(chunk, num_blocks), executor);
        Self { engine, num_blocks, seed: HashSeed::new(&digest, "", ""), next_id: 0 }
    }

    /// Forgets the prefix cache; what the pool holds stays there as poison.
    pub(crate) fn reset(&mut self, chunk: u32, num_blocks: u32) {
        self.engine.scheduler = scheduler(chunk, num_blocks);
    }

    pub(crate) fn submit(&mut self, request: &Request) -> SequenceId {
        self.next_id += 1;
        let given = [&request.prompt[..], &request.output].concat();
        let new = NewSequence {
            id: SequenceId(self.next_id),
            prompt: request.prompt.clone(),
            output: request.output.clone(),
            hashes: block_hashes(self.seed, &given, BLOCK_SIZE as usize),
            seed: self.seed,
            limits: Limits {
                max_tokens: request.max_tokens,
                stop_token_ids: request.stop_token_ids.clone(),
                ignore_eos: false,
            },
            mode: Mode::Local,
        };
        self.engine.submit(new, request.params.clone()).unwrap();
        SequenceId(self.next_id)
    }

    /// All of `requests` at once, to the end.
    pub(crate) fn run(&mut self, requests: &[Request]) -> Vec<Answer> {
        let ids: Vec<SequenceId> = requests.iter().map(|request| self.submit(request)).collect();
        let given: BTreeMap<_, _> =
            ids.iter().zip(requests).map(|(id, request)| (*id, request.output.len())).collect();
        let mut answers: BTreeMap<SequenceId, Answer> = BTreeMap::new();
        while let Some(events) = self.engine.step(&mut NoObserver) {
            self.engine.scheduler.check_integrity().unwrap();
            for event in events {
                match event {
                    EngineEvent::Token { id, index, token, logprob } => {
                        let answer = answers.entry(id).or_default();
                        assert_eq!(given[&id] + answer.tokens.len(), index as usize);
                        answer.tokens.push((token, logprob));
                    }
                    EngineEvent::Finished { id, usage, .. } => {
                        assert!(usage.is_balanced(), "{usage:?}");
                        answers.entry(id).or_default().usage = usage;
                    }
                }
            }
        }
        assert!(self.engine.scheduler.is_idle());
        ids.iter().map(|id| answers.remove(id).unwrap()).collect()
    }

    /// One after the other, each with an empty prefix cache.
    pub(crate) fn run_alone(&mut self, requests: &[Request], chunk: u32) -> Vec<Answer> {
        let alone = |request| {
            self.reset(chunk, self.num_blocks);
            self.run(std::slice::from_ref(request)).remove(0)
        };
        requests.iter().map(alone).collect()
    }
}

fn scheduler(chunk: u32, num_blocks: u32) -> Scheduler {
    Scheduler::new(SchedulerConfig {
        block_size: BLOCK_SIZE,
        num_blocks,
        max_num_batched_tokens: chunk,
        max_num_seqs: 16,
        max_waiting: 64,
        max_model_len: 2048,
    })
}

/// "What is the capital of France?" with the chat template of the default model around it.
pub(crate) const CAPITAL: [TokenId; 37] = [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407,
    19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531,
    198,
];

/// A story about a relay of riders, written for these tests, in tokens of the default model.
pub(crate) const STORY: [TokenId; 321] = [
    6121, 665, 592, 29487, 99, 28, 253, 4386, 429, 260, 4051, 288, 260, 3575, 23112, 411, 18493,
    30, 330, 27884, 2049, 260, 28899, 418, 16804, 351, 260, 11841, 281, 253, 15601, 8727, 28, 284,
    897, 3772, 4158, 355, 588, 665, 436, 253, 1165, 2291, 351, 253, 7094, 19032, 260, 3398, 30,
    1385, 260, 1867, 27884, 436, 2221, 7003, 281, 260, 32551, 30, 378, 8727, 4247, 3288, 418, 253,
    6760, 371, 28, 260, 12364, 6391, 436, 2842, 288, 913, 28, 284, 260, 5073, 3514, 335, 1355,
    8878, 253, 8427, 30, 32304, 28775, 260, 2444, 970, 28, 284, 14938, 761, 288, 699, 732, 436,
    2855, 2972, 30, 657, 436, 2001, 338, 971, 282, 601, 5341, 837, 650, 11310, 2585, 28, 837, 357,
    7569, 28, 284, 617, 736, 325, 665, 288, 1188, 690, 30, 198, 198, 504, 817, 761, 624, 4238,
    2876, 30, 1550, 5806, 6370, 260, 1301, 28, 260, 8727, 761, 288, 685, 1130, 411, 260, 4626, 28,
    527, 2637, 827, 2009, 2848, 30, 1550, 253, 6391, 3514, 303, 513, 826, 827, 6648, 28, 260,
    27884, 13197, 28, 284, 260, 555, 418, 260, 1867, 2291, 3485, 282, 357, 805, 975, 14938, 2422,
    30, 1644, 260, 42805, 282, 260, 6648, 4150, 1187, 897, 8727, 42, 260, 5353, 357, 6612, 28, 260,
    5353, 357, 2049, 28, 260, 11654, 357, 4891, 30, 1094, 253, 8727, 436, 3590, 28, 260, 2905,
    4342, 418, 2268, 335, 527, 11310, 357, 761, 15784, 28, 284, 253, 3784, 856, 325, 2362, 429,
    665, 2489, 282, 429, 260, 4051, 30, 198, 198, 49, 11390, 9803, 2268, 3413, 354, 1573, 40061,
    732, 260, 4911, 282, 260, 2754, 436, 30, 476, 2122, 314, 7182, 1627, 384, 1137, 30, 476, 1882,
    2093, 1303, 253, 8727, 5847, 327, 253, 27884, 30, 1046, 1303, 260, 27884, 5847, 327, 260, 8727,
    30, 1350, 392, 985, 42, 216, 33, 34, 10720, 281, 28, 216, 33, 34, 10720, 578, 28, 897, 9053,
    28, 1092, 392, 2800, 260, 6644, 1270, 198,
];
