//! Runs one step: the plan's rows through the model, then one token for each sequence that wants one.

use crate::cpu::KvPool;
use crate::sampler::{History, RowMath, Sampled, Scratch, sample};
use estafette_model::{Backend, Batch, BatchSequence, Model};
use estafette_scheduler::{ScheduledSequence, StepPlan};
use estafette_types::{SamplingParams, SequenceId};

/// What the sampler needs to know about a sequence.
pub trait Sequences {
    /// Its tokens so far.
    fn history(&self, id: SequenceId) -> History<'_>;
    /// How its tokens are chosen.
    fn params(&self, id: SequenceId) -> &SamplingParams;
}

/// Executes plans. Hides which backend does.
pub trait Executor: Send {
    /// Runs every row of `plan` and chooses a token for each sequence that samples, in the plan's order.
    /// `on_layer(l)` is called as soon as layer `l`'s keys and values of all rows are stored.
    fn run(
        &mut self,
        plan: &StepPlan,
        sequences: &dyn Sequences,
        on_layer: &mut dyn FnMut(usize),
    ) -> Vec<(SequenceId, Sampled)>;

    /// Names everything that determines the bits of a result.
    fn numerics_id(&self) -> String;

    /// The memory that hand-offs may read and write; `None` when the backend has no such pool.
    fn kv_pool(&self) -> Option<&KvPool>;
}

/// An [`Executor`] over a model and a backend.
pub struct ModelExecutor<B: Backend> {
    pub(crate) backend: B,
    pub(crate) model: Model<B>,
    pub(crate) cache: B::Cache,
    pub(crate) pool: Option<KvPool>,
    pub(crate) numerics_id: String,
    pub(crate) block_size: u32,
    pub(crate) scratch: Scratch,
}

impl<B: Backend> std::fmt::Debug for ModelExecutor<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelExecutor")
            .field("numerics_id", &self.numerics_id)
            .finish_non_exhaustive()
    }
}

impl<B> Executor for ModelExecutor<B>
where
    B: Backend + RowMath + Send,
    B::Cache: Send,
    Model<B>: Send,
{
    fn run(
        &mut self,
        plan: &StepPlan,
        sequences: &dyn Sequences,
        on_layer: &mut dyn FnMut(usize),
    ) -> Vec<(SequenceId, Sampled)> {
        let batch = batch_of(plan, self.block_size);
        self.model.forward(&mut self.backend, &batch, &mut self.cache, on_layer);
        let samples = plan.sequences.iter().filter(|s| s.samples);
        let logits = self.backend.read(self.model.logits());
        let width = logits.len() / batch.logit_rows.len().max(1);
        samples
            .zip(logits.chunks_exact(width.max(1)))
            .map(|(scheduled, logits)| {
                let history = sequences.history(scheduled.id);
                let params = sequences.params(scheduled.id);
                let math = &self.backend;
                (scheduled.id, sample(logits, params, history, math, &mut self.scratch))
            })
            .collect()
    }

    fn numerics_id(&self) -> String {
        self.numerics_id.clone()
    }

    fn kv_pool(&self) -> Option<&KvPool> {
        self.pool.as_ref()
    }
}

/// Flattens a plan into rows.
fn batch_of(plan: &StepPlan, block_size: u32) -> Batch {
    let mut batch = Batch::default();
    for scheduled in &plan.sequences {
        let first = batch.tokens.len();
        batch.tokens.extend_from_slice(&scheduled.tokens);
        for position in (scheduled.start..).take(scheduled.tokens.len()) {
            batch.positions.push(position);
            batch.slots.push(slot(scheduled, position, block_size));
        }
        let rows = first..batch.tokens.len();
        if scheduled.samples {
            batch.logit_rows.push(rows.end - 1);
        }
        batch.sequences.push(BatchSequence {
            rows,
            start: scheduled.start,
            block_table: scheduled.block_table.clone(),
        });
    }
    batch
}

/// The place in the pool of the key and value at `position`.
fn slot(scheduled: &ScheduledSequence, position: u32, block_size: u32) -> u32 {
    let block = scheduled.block_table[(position / block_size) as usize];
    block.0 * block_size + position % block_size
}
