//! How a worker computes.

use crate::Problems;
use crate::environment::available_threads;
use clap::{Args, ValueEnum};
use estafette_types::{ByteSize, parse_duration};
use std::time::Duration;

/// Which implementation runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// Vector kernels, chosen for this processor when the process starts.
    Cpu,
    /// Plain f32 loops: slow, for tests and for finding out who is wrong.
    Reference,
    /// Computes nothing and answers with meaningless tokens, to measure everything else.
    Mock,
}

/// How KV blocks travel from a prefill worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Shared memory between processes of one machine, else TCP.
    Auto,
    /// TCP even on one machine.
    Tcp,
    /// Shared memory or nothing.
    Shm,
}

/// Flags about the engine, the same for both kinds of worker.
#[derive(Clone, Debug, Args)]
pub struct EngineArgs {
    /// Threads that compute; 0 means one for each core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Memory for KV blocks.
    #[arg(long, default_value = "512MiB")]
    pub kv_memory: ByteSize,
    /// The most tokens in one step: prompt chunks and decode rows together.
    #[arg(long, default_value_t = 512)]
    pub max_num_batched_tokens: u32,
    /// The most sequences that run at once.
    #[arg(long, default_value_t = 64)]
    pub max_num_seqs: u32,
    /// The most sequences that wait; beyond that the worker refuses.
    #[arg(long, default_value_t = 256)]
    pub max_waiting: u32,
    /// The longest sequence, prompt and answer together; 0 means what the model was made for.
    #[arg(long, default_value_t = 0)]
    pub max_model_len: u32,
    /// Layers that travel together in a hand-off.
    #[arg(long, default_value_t = 1)]
    pub layers_per_group: u32,
    /// What runs the model.
    #[arg(long, value_enum, default_value = "cpu")]
    pub backend: BackendKind,
    /// How long each step takes with `--backend mock`.
    #[arg(long, default_value = "5ms", value_parser = parse_duration)]
    pub mock_step: Duration,
    /// Kernel tier: avx512-vnni, avx512, avx2 or portable. The best this processor has by default.
    #[arg(long)]
    pub kernel_tier: Option<String>,
}

/// Checked [`EngineArgs`].
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// At least 1.
    pub threads: usize,
    /// Bytes for KV blocks.
    pub kv_memory: ByteSize,
    /// At least one block.
    pub max_num_batched_tokens: u32,
    /// At least 1.
    pub max_num_seqs: u32,
    /// At least 1.
    pub max_waiting: u32,
    /// `None`: what the model was made for.
    pub max_model_len: Option<u32>,
    /// At least 1.
    pub layers_per_group: u32,
    /// What runs the model.
    pub backend: BackendKind,
    /// How long each step of the mock backend takes.
    pub mock_step: Duration,
    /// `None`: the best that the processor has.
    pub kernel_tier: Option<String>,
}

/// More threads than this help no CPU model and only cost stacks.
const THREADS_MAX: usize = 256;

impl EngineArgs {
    pub(crate) fn check(self, problems: &mut Problems) -> EngineSettings {
        problems.check(self.threads <= THREADS_MAX, "--threads", || {
            format!("{} threads are too many, at most {THREADS_MAX}", self.threads)
        });
        for (flag, value) in [
            ("--max-num-seqs", self.max_num_seqs),
            ("--max-waiting", self.max_waiting),
            ("--layers-per-group", self.layers_per_group),
        ] {
            problems.check(value > 0, flag, || "must be at least 1".into());
        }
        let batched = self.max_num_batched_tokens;
        problems.check((16..=8192).contains(&batched), "--max-num-batched-tokens", || {
            format!("{batched} is out of range, 16 to 8192")
        });
        problems.check(batched >= self.max_num_seqs, "--max-num-batched-tokens", || {
            format!(
                "{batched} tokens cannot hold one row for each of --max-num-seqs {}",
                self.max_num_seqs
            )
        });
        EngineSettings {
            threads: if self.threads == 0 { available_threads() } else { self.threads },
            kv_memory: self.kv_memory,
            max_num_batched_tokens: batched,
            max_num_seqs: self.max_num_seqs,
            max_waiting: self.max_waiting,
            max_model_len: (self.max_model_len > 0).then_some(self.max_model_len),
            layers_per_group: self.layers_per_group,
            backend: self.backend,
            mock_step: self.mock_step,
            kernel_tier: self.kernel_tier,
        }
    }
}
