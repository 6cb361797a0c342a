//! Workers that do nothing any more although nobody has closed their connections: whoever waits for one is told.

use super::{Cluster, WorkerKey};
use std::time::Duration;
use tokio::sync::watch;

/// By how much a step may be longer than the longest one that is expected of a worker that has shown its steps.
const SLOWER: f64 = 10.0;
/// The same when the expectation is a guess: the first step of a slow machine is no crash.
const SLOWER_THAN_GUESSED: f64 = 100.0;

/// What has become of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is there.
    Lives,
    /// It does nothing, and those that talk to it cannot know. It may be back later, for others.
    Silent,
    /// It has left, and not in order: its connections are closed, or will be.
    Gone,
}

/// Tells all that wait for one worker that it is lost.
#[derive(Debug)]
pub(super) struct Loss(watch::Sender<Fate>);

impl Loss {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Fate::Lives))
    }

    /// Hears of losses from now on.
    pub(super) fn listen(&self) -> Lost {
        Lost(self.0.subscribe())
    }

    pub(super) fn tell(&self, fate: Fate) {
        self.0.send_replace(fate);
    }
}

/// Hears when a worker is lost.
#[derive(Debug)]
pub(crate) struct Lost(watch::Receiver<Fate>);

impl Lost {
    /// Returns when the worker is lost, and never when it leaves in order.
    pub(crate) async fn wait(&mut self) -> Fate {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }

    /// Returns when the worker is no member any more.
    pub(crate) async fn left(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl Cluster {
    /// The longest silence of a worker that is there.
    pub(crate) fn worker_timeout(&self) -> Duration {
        self.worker_timeout
    }

    /// For how long the worker's engine may be at one thing: a long step is no crash.
    pub(crate) fn longest_stillness(&self, worker: &WorkerKey) -> Duration {
        let registry = self.lock();
        let context = registry.member(worker).map_or(0, |member| member.shape().max_model_len);
        let longest = registry.fleet.longest_step(worker.slot, context);
        let seconds = longest.map_or(0.0, |step| {
            step.seconds * if step.learned { SLOWER } else { SLOWER_THAN_GUESSED }
        });
        let step = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.worker_timeout.max(step)
    }

    /// The worker does nothing any more: what it was doing is to be done elsewhere.
    pub(crate) fn lost(&self, worker: &WorkerKey) {
        if let Some(member) = self.lock().member(worker) {
            member.loss.tell(Fate::Silent);
        }
    }
}

#[cfg(test)]
mod tests;
