//! The supervisor: does something to a worker, and replaces it when it has ended.

use super::Workers;
use super::clients::Progress;
use crate::eventually;
use crate::hand::HandMade;
use crate::http::Metrics;
use estafette_types::SplitMix64;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How long a fault waits for the moment that it is meant for.
const MOMENT: Duration = Duration::from_secs(2);

/// So many are stopped at once at most: somebody must be left to go on.
const FROZEN_MAX: usize = 2;

/// Answers that ran when faults came, by how far they were; and what the workers that were hit were at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Phases {
    no_token: usize,
    first_token: usize,
    decoding: usize,
    queued_at_worker: u64,
    prefilling_at_worker: u64,
    handing_off: u64,
    decoding_at_worker: u64,
    while_draining: usize,
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} without a token, {} with the first one, {} with more; at the worker that was hit: {} queued, {} tokens of \
             prompts to compute, {} times in a hand-off, {} decoding; {} times while it drained",
            self.no_token,
            self.first_token,
            self.decoding,
            self.queued_at_worker,
            self.prefilling_at_worker,
            self.handing_off,
            self.decoding_at_worker,
            self.while_draining
        )
    }
}

/// What a worker is at when it is hit.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Any,
    Busy(&'static str),
    /// Blocks are held and nothing is computed: they are on their way.
    HandingOff,
}

const MOMENTS: [Moment; 5] = [
    Moment::Any,
    Moment::Busy("waiting_sequences"),
    Moment::Busy("running_prefill_tokens"),
    Moment::Busy("decoding_sequences"),
    Moment::HandingOff,
];

pub(super) struct Chaos<'a> {
    rng: SplitMix64,
    cluster: &'a HandMade,
    progress: Progress,
    faults: BTreeMap<&'static str, usize>,
    phases: Phases,
    /// When those that are stopped go on.
    frozen: BTreeMap<&'static str, Instant>,
}

impl<'a> Chaos<'a> {
    pub(super) fn new(seed: u64, cluster: &'a HandMade, progress: Progress) -> Self {
        let rng = SplitMix64::new(seed ^ 0xfa17);
        let (faults, phases, frozen) = (BTreeMap::new(), Phases::default(), BTreeMap::new());
        Self { rng, cluster, progress, faults, phases, frozen }
    }

    pub(super) fn ended(self) -> (BTreeMap<&'static str, usize>, Phases) {
        (self.faults, self.phases)
    }

    /// Waits until so much of the work is done, so that faults are spread over all of it. Whoever is stopped goes on in its time
    /// meanwhile: the work may wait for it.
    pub(super) fn wait_for_share(&mut self, share: f64, workers: &Workers) {
        let reached = eventually(|| {
            self.thaw(workers, Instant::now());
            self.progress.share() >= share
        });
        assert!(reached, "the work stands still");
        let pause = Duration::from_millis(self.rng.below(150));
        std::thread::sleep(pause);
    }

    /// One fault of a worker that is not stopped already.
    pub(super) fn fault(&mut self, workers: &mut Workers) {
        self.thaw(workers, Instant::now());
        let may_freeze = self.frozen.len() < FROZEN_MAX;
        let awake: Vec<_> =
            workers.keys().copied().filter(|name| !self.frozen.contains_key(name)).collect();
        let name = awake[self.rng.below(awake.len() as u64) as usize];
        let moment = MOMENTS[self.rng.below(MOMENTS.len() as u64) as usize];
        self.wait_for(name, moment, workers);
        let kind = self.rng.below(10);
        match kind {
            0..4 => self.kill(workers, name),
            4..7 if may_freeze => self.freeze(workers, name),
            4..8 => self.terminate(workers, name),
            8 => self.drain(workers, name),
            _ => self.kill_while_it_drains(workers, name),
        }
    }

    fn wait_for(&mut self, name: &str, moment: Moment, workers: &Workers) {
        let until = Instant::now() + MOMENT;
        while Instant::now() < until && !is_at(&self.cluster.http.metrics(), name, moment) {
            self.thaw(workers, Instant::now());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Something is done to a worker now.
    fn count(&mut self, what: &'static str, name: &str) {
        *self.faults.entry(what).or_default() += 1;
        let [no_token, first_token, decoding] = self.progress.phases();
        self.phases.no_token += no_token;
        self.phases.first_token += first_token;
        self.phases.decoding += decoding;
        let metrics = self.cluster.http.metrics();
        self.phases.queued_at_worker += of(&metrics, name, "waiting_sequences");
        self.phases.prefilling_at_worker += of(&metrics, name, "running_prefill_tokens");
        self.phases.decoding_at_worker += of(&metrics, name, "decoding_sequences");
        self.phases.handing_off += u64::from(is_at(&metrics, name, Moment::HandingOff));
    }

    /// Starts it again under its name; nobody waits for it here.
    fn replace(&self, workers: &mut Workers, name: &'static str) {
        workers.insert(name, self.cluster.worker(name));
    }

    fn kill(&mut self, workers: &mut Workers, name: &'static str) {
        self.count("killed", name);
        workers.get_mut(name).unwrap().kill();
        self.replace(workers, name);
    }

    /// For less and for more time than it takes to be lost.
    fn freeze(&mut self, workers: &mut Workers, name: &'static str) {
        self.count("stopped for a while", name);
        workers[name].freeze();
        let pause = Duration::from_millis(200 + self.rng.below(6_000));
        self.frozen.insert(name, Instant::now() + pause);
    }

    /// Lets those go on whose time has come.
    fn thaw(&mut self, workers: &Workers, now: Instant) {
        self.frozen.retain(|name, until| {
            let over = *until <= now;
            if over {
                workers[name].thaw();
            }
            !over
        });
    }

    pub(super) fn thaw_all(&mut self, workers: &Workers) {
        self.thaw(workers, Instant::now() + Duration::from_secs(3600));
    }

    fn leaves_in_order(&mut self, workers: &mut Workers, name: &'static str) {
        let code = workers.get_mut(name).unwrap().wait();
        assert_eq!(code, Some(0), "{name} was drained");
        self.replace(workers, name);
    }

    fn terminate(&mut self, workers: &mut Workers, name: &'static str) {
        self.count("ended by SIGTERM", name);
        workers[name].terminate();
        self.leaves_in_order(workers, name);
    }

    /// It may not have joined yet after the last fault: then there is nobody to drain.
    fn drain(&mut self, workers: &mut Workers, name: &'static str) {
        let grace = format!("{}ms", self.rng.below(800));
        self.count("drained by name", name);
        if self.cluster.drain(name, &grace).status.success() {
            self.leaves_in_order(workers, name);
        } else {
            workers[name].terminate();
            self.leaves_in_order(workers, name);
        }
    }

    fn kill_while_it_drains(&mut self, workers: &mut Workers, name: &'static str) {
        self.count("killed while draining", name);
        workers[name].terminate();
        std::thread::sleep(Duration::from_millis(self.rng.below(200)));
        let worker = workers.get_mut(name).unwrap();
        self.phases.while_draining += usize::from(worker.ended().is_none());
        if worker.ended().is_none() {
            worker.kill();
        }
        self.replace(workers, name);
    }
}

fn of(metrics: &Metrics, worker: &str, name: &str) -> u64 {
    metrics.sum(&format!("estafette_worker_{name}"), &[&format!("\"{worker}\"")])
}

fn is_at(metrics: &Metrics, worker: &str, moment: Moment) -> bool {
    let of = |name| of(metrics, worker, name);
    match moment {
        Moment::Any => true,
        Moment::Busy(name) => of(name) > 0,
        Moment::HandingOff => {
            let computing = of("running_prefill_tokens") + of("decoding_sequences");
            computing == 0 && of("free_blocks") < of("total_blocks")
        }
    }
}
