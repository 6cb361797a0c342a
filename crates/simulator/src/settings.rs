//! What a simulated cluster is made of.

use crate::error::SimulateError;
use crate::step_time::StepTimes;
use estafette_scheduler::SchedulerConfig;
use estafette_types::Role;

/// A cluster. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// Prefill workers; 0: every decode worker computes its own prompts.
    pub prefill: u32,
    /// Decode workers; at least 1.
    pub decode: u32,
    /// Workers that compute on the same cores: the first so many, the next so many. 1: each has its own.
    pub workers_per_host: u32,
    /// How long steps take.
    pub step_times: StepTimes,
    /// Tokens of a KV block.
    pub block_size: u32,
    /// Blocks of a worker's pool.
    pub kv_blocks: u32,
    /// Rows of a step on a prefill worker.
    pub prefill_chunk: u32,
    /// Rows of a step on a decode worker, which has decode rows in the same step.
    pub decode_chunk: u32,
    /// Sequences that run at once on a worker.
    pub max_num_seqs: u32,
    /// Sequences that wait on a worker.
    pub max_waiting: u32,
    /// Requests that wait in the router while every worker is full.
    pub room: u32,
    /// The longest they wait.
    pub room_wait_micros: u64,
    /// How long a message takes between router and worker or between workers.
    pub message_micros: u64,
    /// How long a worker's cache events and load record take to the router.
    pub state_micros: u64,
    /// Which share of state updates is lost, in millionths; the router notices by the number and asks for a snapshot.
    pub state_loss_ppm: u32,
    /// Bytes that a worker's link carries in a second, each way.
    pub link_bytes_per_second: u64,
    /// Groups of layers that travel apart: KV of a group leaves when it is computed.
    pub layer_groups: u32,
    /// A prompt whose KV has not come within this time is computed by the decode worker; as in the real one.
    pub hand_off_timeout_micros: u64,
    /// Nothing runs longer than this; what has not ended counts as a miss.
    pub end_micros: u64,
}

impl ClusterSettings {
    /// A cluster of `prefill` + `decode` workers of the kind that `step_times` describes.
    pub fn new(prefill: u32, decode: u32, step_times: StepTimes) -> Self {
        let mut settings = Self {
            prefill,
            decode,
            workers_per_host: 1,
            step_times,
            block_size: 0,
            kv_blocks: 0,
            prefill_chunk: 8192,
            decode_chunk: 2048,
            max_num_seqs: 256,
            max_waiting: 256,
            room: 512,
            room_wait_micros: 60_000_000,
            message_micros: 500,
            state_micros: 10_000,
            state_loss_ppm: 0,
            link_bytes_per_second: 50_000_000_000,
            layer_groups: 16,
            hand_off_timeout_micros: 30_000_000,
            end_micros: 30 * 24 * 3600 * 1_000_000,
        };
        settings.set_block_size(64);
        settings
    }

    /// Blocks of `block_size` tokens, at least 1, and as many as the worker's memory holds.
    pub fn set_block_size(&mut self, block_size: u32) {
        let blocks = self.step_times.kv_tokens / u64::from(block_size.max(1));
        self.block_size = block_size;
        self.kv_blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    }

    /// Checks every figure.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn check(&self) -> Result<(), SimulateError> {
        let wrong = |setting, problem: &str| {
            Err(SimulateError::Setting { setting, problem: problem.into() })
        };
        let positive = [
            ("decode", u64::from(self.decode)),
            ("workers-per-host", u64::from(self.workers_per_host)),
            ("block-size", u64::from(self.block_size)),
            ("kv-blocks", u64::from(self.kv_blocks)),
            ("prefill-chunk", u64::from(self.prefill_chunk)),
            ("decode-chunk", u64::from(self.decode_chunk)),
            ("max-num-seqs", u64::from(self.max_num_seqs)),
            ("max-waiting", u64::from(self.max_waiting)),
            ("link-bandwidth", self.link_bytes_per_second),
            ("layer-groups", u64::from(self.layer_groups)),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return wrong(setting, "must be at least 1");
        }
        if self.prefill > 4096 || self.decode > 4096 {
            return wrong("prefill", "and `decode` can be 4096 at most");
        }
        if self.decode_chunk < self.max_num_seqs {
            return wrong("decode-chunk", "must hold a row for each of `max-num-seqs`");
        }
        if self.state_loss_ppm >= 1_000_000 {
            return wrong("state-loss", "must be below 1");
        }
        if u64::from(self.kv_blocks) * u64::from(self.block_size) > u64::from(u32::MAX) {
            return wrong("kv-blocks", "times `block-size` is more tokens than fit 32 bits");
        }
        Ok(())
    }

    /// All workers: prefill workers have the first slots.
    pub(crate) fn roles(&self) -> impl Iterator<Item = Role> {
        let prefill = (0..self.prefill).map(|_| Role::Prefill);
        prefill.chain((0..self.decode).map(|_| Role::Decode))
    }

    pub(crate) fn scheduler(&self, role: Role) -> SchedulerConfig {
        SchedulerConfig {
            block_size: self.block_size,
            num_blocks: self.kv_blocks,
            max_num_batched_tokens: self.chunk(role),
            max_num_seqs: self.max_num_seqs,
            max_waiting: self.max_waiting,
            max_model_len: u32::MAX,
        }
    }

    /// Rows of a step.
    pub(crate) fn chunk(&self, role: Role) -> u32 {
        match role {
            Role::Prefill => self.prefill_chunk,
            Role::Decode => self.decode_chunk,
        }
    }

    /// The role of those who compute prompts.
    pub(crate) fn prompt_role(&self) -> Role {
        if self.prefill == 0 { Role::Decode } else { Role::Prefill }
    }

    /// Arrival to first token of a prompt that is alone in an empty cluster.
    pub(crate) fn isolated_micros(&self, tokens: u32) -> u64 {
        let chunk = self.chunk(self.prompt_role());
        2 * self.message_micros + self.step_times.isolated_micros(tokens, chunk)
    }
}
