//! The prefill side of a hand-off: what the engine's thread tells the pusher, and when blocks are let go.
//!
//! A push begins with the first step of its prompt. All blocks of the prompt are allocated then and stay the
//! same until the end: a sequence that only prefills never grows, so it is never preempted, and nobody else
//! can write to a block that the pusher may still read.

use estafette_config::Transport;
use estafette_engine::{Engine, EngineEvent, StepObserver};
use estafette_kv_transfer::{
    FirstToken, HandoffError, HandoffLayout, PushHandle, PushOutcome, PushRequest, Pusher,
    PusherLimits, TransportChoice,
};
use estafette_proto::v1;
use estafette_scheduler::{Mode, ScheduledSequence, StepPlan};
use estafette_types::{Role, SequenceId, TransferId};
use estafette_worker::{Foundation, HandOff, Leg, WorkerError, forward};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The pushes of one prefill worker.
#[derive(Debug)]
pub(crate) struct Push {
    pusher: Pusher,
    layout: HandoffLayout,
    /// From the arrival of a leg until its blocks are not read any more.
    pushes: BTreeMap<SequenceId, Outgoing>,
    /// The pushes that have begun.
    running: BTreeMap<TransferId, SequenceId>,
}

#[derive(Debug)]
struct Outgoing {
    transfer: TransferId,
    decode: v1::KvEndpoint,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The prompt is in the queue; no block is there yet.
    Waiting,
    /// The prompt is computed.
    Running(PushHandle),
    /// Everything has been said; the outcome is awaited.
    Ending,
}

/// Starts the pusher.
pub(crate) async fn build(
    foundation: Foundation<PushOutcome>,
) -> Result<(Push, Option<v1::KvEndpoint>), WorkerError> {
    let pool = foundation.pool.ok_or(WorkerError::NoHandOff)?;
    let layout = HandoffLayout {
        kv: pool.layout,
        layers_per_group: foundation.layers_per_group,
        model_digest: foundation.model_digest.to_vec(),
        numerics_id: foundation.numerics_id,
    };
    let transport = match foundation.transport {
        Transport::Auto => TransportChoice::Auto,
        Transport::Tcp => TransportChoice::Tcp,
        Transport::Shm => TransportChoice::Shm,
    };
    let limits = PusherLimits { transport, tls: foundation.tls, ..PusherLimits::default() };
    let (pusher, outcomes) =
        Pusher::new(pool.memory, layout.clone(), foundation.incarnation, limits);
    forward(outcomes, foundation.commands);
    Ok((Push { pusher, layout, pushes: BTreeMap::new(), running: BTreeMap::new() }, None))
}

impl Push {
    /// Begins the push of a sequence that is in a step for the first time.
    fn begin(&mut self, scheduled: &ScheduledSequence) {
        let Some(push) = self.pushes.get_mut(&scheduled.id) else { return };
        if !matches!(push.state, State::Waiting) {
            return;
        }
        let transfer = push.transfer;
        let request = PushRequest {
            transfer,
            endpoint: push.decode.clone(),
            table: scheduled.block_table.clone(),
            deadline: push.deadline,
        };
        let duplicate = self.running.contains_key(&transfer);
        let Some(handle) = (!duplicate).then(|| self.pusher.start(request).ok()).flatten() else {
            // The decode worker notices by its own deadline; the first token is delivered all the same.
            tracing::warn!(%transfer, duplicate, "a hand-off could not begin");
            self.pushes.remove(&scheduled.id);
            return;
        };
        let cached = 0..scheduled.start / self.layout.kv.block_size;
        if !cached.is_empty() {
            for group in 0..self.layout.groups() {
                handle.ready(group, cached.clone());
            }
        }
        self.running.insert(transfer, scheduled.id);
        push.state = State::Running(handle);
    }

    /// The prompt is done and everything has been announced.
    fn commit(&mut self, id: SequenceId, first_token: FirstToken) {
        let Some(push) = self.pushes.get_mut(&id) else { return };
        if let State::Running(handle) = std::mem::replace(&mut push.state, State::Ending) {
            handle.commit(first_token);
        }
    }
}

/// The blocks that this step makes final: filled by it, or the last one of the prompt.
fn finished_blocks(scheduled: &ScheduledSequence, block_size: u32) -> Range<u32> {
    let end = scheduled.start + scheduled.tokens.len() as u32;
    let until = if scheduled.ends_prompt { end.div_ceil(block_size) } else { end / block_size };
    scheduled.start / block_size..until
}

impl StepObserver for Push {
    fn planned(&mut self, plan: &StepPlan) {
        for scheduled in &plan.sequences {
            self.begin(scheduled);
        }
    }

    fn layer_done(&mut self, plan: &StepPlan, layer: usize) {
        let Some(group) = self.layout.group_ending_with(layer as u32) else { return };
        for scheduled in &plan.sequences {
            let blocks = finished_blocks(scheduled, self.layout.kv.block_size);
            if let Some(Outgoing { state: State::Running(handle), .. }) =
                self.pushes.get(&scheduled.id)
                && !blocks.is_empty()
            {
                handle.ready(group, blocks);
            }
        }
    }
}

impl HandOff for Push {
    type Event = PushOutcome;
    const ROLE: Role = Role::Prefill;

    fn mode(&self, _leg: &Leg) -> Mode {
        Mode::PrefillOnly
    }

    fn started(&mut self, id: SequenceId, leg: &Leg, deadline: Instant, _engine: &mut Engine) {
        if let Leg::Prefill { transfer, decode } = leg {
            let (transfer, decode) = (*transfer, decode.clone());
            self.pushes.insert(id, Outgoing { transfer, decode, deadline, state: State::Waiting });
        }
    }

    /// A transfer has ended. While its prompt is still computed nothing is held yet: its blocks are let go
    /// when it finishes.
    fn on_transport(&mut self, outcome: PushOutcome, engine: &mut Engine) -> Vec<EngineEvent> {
        let PushOutcome { transfer, result } = outcome;
        match result {
            Ok(stats) => tracing::debug!(
                %transfer,
                bytes = stats.bytes,
                bytes_before_commit = stats.bytes_before_commit,
                micros = stats.elapsed.as_micros() as u64,
                "handed off"
            ),
            Err(HandoffError::Aborted) => tracing::debug!(%transfer, "hand-off aborted"),
            Err(error) => tracing::warn!(%transfer, %error, "hand-off failed"),
        }
        if let Some(id) = self.running.remove(&transfer) {
            self.pushes.remove(&id);
            engine.scheduler.release_held(id);
        }
        Vec::new()
    }

    fn on_events(&mut self, events: &[EngineEvent], engine: &mut Engine) {
        for event in events {
            match event {
                EngineEvent::Token { id, token, logprob, .. } => {
                    let logprob = logprob.as_ref().map(|l| l.logprob);
                    self.commit(*id, FirstToken { token: *token, logprob });
                }
                // The push has failed before, or never begun: nobody reads the blocks.
                EngineEvent::Finished { id, .. } if !self.pushes.contains_key(id) => {
                    engine.scheduler.release_held(*id);
                }
                EngineEvent::Finished { .. } => {}
            }
        }
    }

    fn cancelled(&mut self, id: SequenceId, engine: &mut Engine) {
        let Some(push) = self.pushes.get_mut(&id) else { return };
        match std::mem::replace(&mut push.state, State::Ending) {
            State::Waiting => {
                self.pushes.remove(&id);
            }
            State::Running(handle) => {
                engine.scheduler.hold(id, 0);
                handle.abort();
            }
            // A finished prompt: its blocks are held already.
            State::Ending => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.pushes.is_empty()
    }

    fn on_timer(&mut self, _engine: &mut Engine) {}

    fn next_timer(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests;
