//! How long single steps take, over a grid of prompt chunks and decode batches.

use super::{Bench, BenchError};
use crate::engine::StepObserver;
use crate::load::BLOCK_SIZE;
use estafette_scheduler::StepPlan;
use estafette_types::{SequenceId, SplitMix64, TokenId};
use std::time::Instant;

/// What a step does.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepShape {
    /// `(new tokens, tokens before them)` of each prompt chunk.
    pub chunks: Vec<(u32, u32)>,
    /// Decoding sequences.
    pub sequences: u32,
    /// Tokens of KV of those, together.
    pub context_tokens: u64,
}

/// A step that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSample {
    /// What it did.
    pub shape: StepShape,
    /// How long it took.
    pub micros: u64,
}

/// Which steps are run. Values that do not fit the engine are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepGrid {
    /// Tokens of prompt chunks.
    pub chunks: Vec<u32>,
    /// Tokens of KV in front of them, whole blocks.
    pub cached: Vec<u32>,
    /// Decoding sequences.
    pub sequences: Vec<u32>,
    /// Tokens of KV of each of them.
    pub contexts: Vec<u32>,
    /// The most tokens of KV of all decoding sequences together.
    pub context_tokens: u32,
    /// Tokens of prompt chunks that run beside decoding sequences.
    pub beside: Vec<u32>,
}

/// What an engine does all the time while another one is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Prompts.
    Prompts,
    /// Some sequences.
    Decodes,
}

/// Decode steps of which the median is taken.
const DECODE_STEPS: usize = 5;
/// Sequences of [`Neighbour::Decodes`], and tokens of the prompt that they share.
const NEIGHBOUR_DECODES: (u32, usize) = (4, 16);
/// Decode steps of a neighbour before it looks up.
const NEIGHBOUR_STEPS: u32 = 64;

impl StepGrid {
    /// A few steps of that grid, to see what a [`Neighbour`] does to them.
    #[must_use]
    pub fn coarse(self) -> Self {
        let few = |values: Vec<u32>, few: &[u32]| -> Vec<u32> {
            values.into_iter().filter(|value| few.contains(value)).collect()
        };
        Self {
            chunks: few(self.chunks, &[16, 64, 256]),
            cached: few(self.cached, &[0]),
            sequences: few(self.sequences, &[1, 4, 16]),
            contexts: few(self.contexts, &[64]),
            beside: Vec::new(),
            ..self
        }
    }

    /// A grid for steps of at most `max_rows` rows and `max_seqs` sequences.
    pub fn new(max_rows: u32, max_seqs: u32) -> Self {
        let up_to = |most: u32, values: &[u32]| -> Vec<u32> {
            let mut kept: Vec<u32> = values.iter().copied().filter(|v| *v < most).collect();
            kept.push(most);
            kept
        };
        Self {
            chunks: up_to(max_rows, &[1, 2, 4, 8, 16, 32, 64, 128, 256]),
            cached: vec![0, 512, 2048],
            sequences: up_to(max_seqs, &[1, 2, 3, 4, 6, 8, 12, 16, 24, 32]),
            contexts: vec![64, 512, 2048],
            context_tokens: 4096,
            beside: vec![16, 128],
        }
    }
}

impl Bench {
    /// Runs every step of the grid once; decode steps a few times, of which the median is given. A second call finds the
    /// prompts of the first one in the cache and takes less time.
    ///
    /// # Errors
    /// When the engine refuses a prompt or has no room.
    pub fn steps(&mut self, grid: &StepGrid) -> Result<Vec<StepSample>, BenchError> {
        let mut samples = Vec::new();
        let most = self.config.max_model_len.min(self.config.num_blocks * BLOCK_SIZE);
        for &cached in grid.cached.iter().filter(|cached| **cached < most) {
            self.cache(cached)?;
            for &n in grid.chunks.iter().filter(|n| cached + **n < most) {
                samples.push(self.chunk(n, cached)?);
            }
        }
        let drift = self.drift(grid);
        for &context in grid.contexts.iter().filter(|context| **context + drift < most) {
            let first = self.next_id + 1;
            let measured = self.decodes(grid, context, &mut samples);
            for id in first..=self.next_id {
                self.engine.cancel(SequenceId(id));
            }
            measured?;
        }
        Ok(samples)
    }

    /// Does work of that kind for a part of a second.
    ///
    /// # Errors
    /// When the engine refuses a prompt or has no room.
    pub fn work(&mut self, kind: Neighbour) -> Result<(), BenchError> {
        match kind {
            Neighbour::Prompts => self.prefill(self.config.max_num_batched_tokens as usize)?,
            Neighbour::Decodes => {
                let (sequences, context) = NEIGHBOUR_DECODES;
                self.decode(sequences, context, NEIGHBOUR_STEPS)?
            }
        };
        Ok(())
    }

    /// How much longer a sequence gets while its context is measured.
    fn drift(&self, grid: &StepGrid) -> u32 {
        let per_size = (DECODE_STEPS + grid.beside.len()) * grid.sequences.len();
        self.config.max_num_seqs + u32::try_from(per_size).unwrap_or(u32::MAX)
    }

    /// Computes the prompt that chunks are measured behind.
    fn cache(&mut self, tokens: u32) -> Result<(), BenchError> {
        if tokens > 0 {
            self.submit(self.fixed(0, tokens as usize), 1)?;
            while !self.engine.scheduler.is_idle() {
                self.sample()?;
            }
        }
        Ok(())
    }

    /// The step that computes the last `n` tokens of a prompt whose first `cached` ones are there.
    fn chunk(&mut self, n: u32, cached: u32) -> Result<StepSample, BenchError> {
        let mut prompt = self.fixed(0, cached as usize);
        prompt.extend(self.prompt(n as usize));
        self.submit(prompt, 1)?;
        let mut last = self.sample()?;
        while !self.engine.scheduler.is_idle() {
            last = self.sample()?;
        }
        Ok(last)
    }

    /// Steps of the most sequences of that context first, then of fewer and fewer of them.
    fn decodes(
        &mut self,
        grid: &StepGrid,
        context: u32,
        samples: &mut Vec<StepSample>,
    ) -> Result<(), BenchError> {
        let room = (grid.context_tokens / context).min(self.config.max_num_seqs);
        let mut sizes: Vec<u32> = grid.sequences.iter().copied().filter(|b| *b <= room).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&most) = sizes.first() else { return Ok(()) };
        let ids: Vec<u64> = (self.next_id + 1..).take(most as usize).collect();
        for number in 0..u64::from(most) {
            self.submit(self.fixed(1 + number, context as usize), u32::MAX)?;
        }
        while self.engine.scheduler.load().decoding_sequences < u64::from(most) {
            self.sample()?;
        }
        for size in sizes {
            for id in &ids[size as usize..] {
                self.engine.cancel(SequenceId(*id));
            }
            samples.push(self.median_step()?);
            let rows = self.config.max_num_batched_tokens - size;
            let has_place = size < self.config.max_num_seqs;
            for &n in grid.beside.iter().filter(|n| has_place && **n <= rows) {
                let prompt = self.prompt(n as usize);
                self.submit(prompt, 1)?;
                samples.push(self.sample()?);
            }
        }
        Ok(())
    }

    fn median_step(&mut self) -> Result<StepSample, BenchError> {
        let mut steps = (0..DECODE_STEPS).map(|_| self.sample()).collect::<Result<Vec<_>, _>>()?;
        let middle = steps[DECODE_STEPS / 2].shape.clone();
        steps.sort_by_key(|step| step.micros);
        Ok(StepSample { shape: middle, micros: steps[DECODE_STEPS / 2].micros })
    }

    /// Runs a step.
    fn sample(&mut self) -> Result<StepSample, BenchError> {
        let mut recorder = Recorder(StepShape::default());
        let began = Instant::now();
        self.engine.step(&mut recorder).ok_or(BenchError::Idle)?;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(StepSample { shape: recorder.0, micros })
    }

    /// The same tokens for the same number in every call.
    fn fixed(&self, number: u64, len: usize) -> Vec<TokenId> {
        let mut rng = SplitMix64::new(number);
        (0..len).map(|_| rng.below(self.vocab) as TokenId).collect()
    }
}

/// Notes what the step does.
struct Recorder(StepShape);

impl StepObserver for Recorder {
    fn planned(&mut self, plan: &StepPlan) {
        for scheduled in &plan.sequences {
            let rows = scheduled.tokens.len() as u32;
            if rows == 1 && scheduled.samples && !scheduled.ends_prompt {
                self.0.sequences += 1;
                self.0.context_tokens += u64::from(scheduled.start) + 1;
            } else {
                self.0.chunks.push((rows, scheduled.start));
            }
        }
    }

    fn layer_done(&mut self, _plan: &StepPlan, _layer: usize) {}
}

#[cfg(test)]
mod tests;
