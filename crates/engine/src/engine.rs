//! The engine: the scheduler's decisions, the executor's work, in one step.

use crate::executor::{Executor, Sequences};
use crate::sampler::{History, Sampled};
use estafette_scheduler::{AddError, NewSequence, Scheduler, StepEvent, StepPlan};
use estafette_types::{FinishReason, SamplingParams, SequenceId, TokenId, TokenLogprob, Usage};
use std::collections::BTreeMap;

/// Something that the sequence's owner is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// A token was chosen.
    Token {
        /// Of this sequence.
        id: SequenceId,
        /// Its place in the answer, from 0.
        index: u32,
        /// The token.
        token: TokenId,
        /// When the sequence asked for log-probabilities.
        logprob: Option<TokenLogprob>,
    },
    /// The sequence has ended; nothing follows.
    Finished {
        /// This sequence.
        id: SequenceId,
        /// Why.
        reason: FinishReason,
        /// What was done for it here.
        usage: Usage,
    },
}

/// Watches a step while it runs: the hand-off hangs here.
pub trait StepObserver {
    /// The step is about to run.
    fn planned(&mut self, plan: &StepPlan);
    /// Keys and values of `layer` are stored for every row of the plan.
    fn layer_done(&mut self, plan: &StepPlan, layer: usize);
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl StepObserver for NoObserver {
    fn planned(&mut self, _plan: &StepPlan) {}
    fn layer_done(&mut self, _plan: &StepPlan, _layer: usize) {}
}

/// Scheduler, executor, and how each sequence samples.
pub struct Engine {
    /// Which sequences run; hand-offs talk to it directly.
    pub scheduler: Scheduler,
    executor: Box<dyn Executor>,
    params: BTreeMap<SequenceId, SamplingParams>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("sequences", &self.params.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with nothing to do.
    pub fn new(scheduler: Scheduler, executor: Box<dyn Executor>) -> Self {
        Self { scheduler, executor, params: BTreeMap::new() }
    }

    /// The executor.
    pub fn executor(&self) -> &dyn Executor {
        self.executor.as_ref()
    }

    /// Takes a sequence in.
    ///
    /// # Errors
    /// When the scheduler refuses it; then nothing is kept.
    pub fn submit(&mut self, new: NewSequence, params: SamplingParams) -> Result<(), AddError> {
        let id = new.id;
        self.scheduler.add(new)?;
        self.params.insert(id, params);
        Ok(())
    }

    /// Ends a sequence that nobody wants; `None` when it is unknown or has ended.
    pub fn cancel(&mut self, id: SequenceId) -> Option<Usage> {
        self.params.remove(&id);
        self.scheduler.cancel(id)
    }

    /// Runs one step; `None` when there is nothing to run.
    pub fn step(&mut self, observer: &mut dyn StepObserver) -> Option<Vec<EngineEvent>> {
        let plan = self.scheduler.schedule();
        if plan.sequences.is_empty() {
            return None;
        }
        observer.planned(&plan);
        let lookup = Lookup { scheduler: &self.scheduler, params: &self.params };
        let chosen =
            self.executor.run(&plan, &lookup, &mut |layer| observer.layer_done(&plan, layer));
        let tokens: Vec<_> = chosen.iter().map(|(id, sampled)| (*id, sampled.token)).collect();
        let events = self.scheduler.complete(&plan, &tokens);
        Some(self.report(events, chosen))
    }

    /// Turns what the scheduler says into events, with log-probabilities, and forgets what has ended.
    fn report(
        &mut self,
        events: Vec<StepEvent>,
        chosen: Vec<(SequenceId, Sampled)>,
    ) -> Vec<EngineEvent> {
        let mut logprobs: BTreeMap<_, _> =
            chosen.into_iter().map(|(id, sampled)| (id, sampled.logprob)).collect();
        events
            .into_iter()
            .map(|event| match event {
                StepEvent::Token { id, index, token } => {
                    let logprob = logprobs.remove(&id).flatten();
                    EngineEvent::Token { id, index, token, logprob }
                }
                StepEvent::Finished { id, reason, usage } => {
                    self.params.remove(&id);
                    EngineEvent::Finished { id, reason, usage }
                }
            })
            .collect()
    }

    /// The KV of a handed-off prompt is complete: the sequence goes on from its first token.
    pub fn adopt(&mut self, id: SequenceId, first: TokenId) -> Vec<EngineEvent> {
        let events = self.scheduler.adopt(id, first);
        self.report(events, Vec::new())
    }
}

/// The sampler's view of the engine.
struct Lookup<'a> {
    scheduler: &'a Scheduler,
    params: &'a BTreeMap<SequenceId, SamplingParams>,
}

impl Sequences for Lookup<'_> {
    fn history(&self, id: SequenceId) -> History<'_> {
        self.scheduler.sequence(id).map_or(History { tokens: &[], prompt_len: 0 }, |sequence| {
            History { tokens: sequence.tokens(), prompt_len: sequence.prompt_len() }
        })
    }

    #[expect(clippy::expect_used, reason = "a planned sequence was submitted and has not ended")]
    fn params(&self, id: SequenceId) -> &SamplingParams {
        self.params.get(&id).expect("a planned sequence was submitted with its parameters")
    }
}

#[cfg(test)]
mod tests;
