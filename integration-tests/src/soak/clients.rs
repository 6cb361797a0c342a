//! Clients that ask without pause and compare every answer.

use super::requests::{Asked, Catalogue, Tokens, ask, client, runtime};
use crate::hand::HandMade;
use estafette_proto::v1::inference_client::InferenceClient;
use estafette_types::{ErrorCode, SplitMix64};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

/// One of so many clients goes away in the middle.
const LEAVES: u64 = 20;
/// Whoever is told to come back does so after this time.
const COME_BACK: Duration = Duration::from_millis(200);

/// Where all requests are: how many tokens each has, and how many have ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    running: Arc<Mutex<BTreeMap<usize, usize>>>,
    ended: Arc<AtomicUsize>,
    all: usize,
}

impl Progress {
    /// Of those that run: without a token, with the first one, with more.
    pub(super) fn phases(&self) -> [usize; 3] {
        let mut phases = [0; 3];
        self.running.lock().unwrap().values().for_each(|tokens| phases[(*tokens).min(2)] += 1);
        phases
    }

    /// The share of requests that have ended.
    pub(super) fn share(&self) -> f64 {
        self.ended.load(Ordering::Relaxed) as f64 / self.all as f64
    }
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    same: usize,
    went_away: usize,
    /// Asked again because nobody was there.
    again: usize,
    /// Asked again because the router had gone.
    broken: usize,
    /// The longest time from asking to the end, those that asked again too.
    longest: Duration,
    wrong: Vec<String>,
}

impl Tally {
    pub(super) fn merge(&mut self, other: Self) {
        self.same += other.same;
        self.went_away += other.went_away;
        self.again += other.again;
        self.broken += other.broken;
        self.longest = self.longest.max(other.longest);
        self.wrong.extend(other.wrong);
    }

    /// No connection broke.
    pub(super) fn check_unbroken(&self) {
        assert_eq!(self.broken, 0, "the router was there all the time");
    }

    /// Every request was answered as it must be.
    pub(super) fn check(&self, requests: usize, seed: u64) {
        let wrong = &self.wrong;
        assert!(wrong.is_empty(), "seed {seed}: {} wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(self.same + self.went_away, requests, "seed {seed}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { same, went_away, again, broken, longest, wrong } = self;
        write!(
            f,
            "{same} answers the same, {} not, {went_away} clients went away, {again} asked again because nobody was there and {broken} because the router had gone, the longest took {:.1} s",
            wrong.len(),
            longest.as_secs_f64()
        )
    }
}

/// All clients, running.
pub(super) struct Clients {
    runtime: Runtime,
    tasks: Vec<JoinHandle<Tally>>,
    progress: Progress,
}

impl Clients {
    /// `count` clients that ask `requests` times together.
    pub(super) fn start(
        cluster: &HandMade,
        catalogue: &Catalogue,
        count: usize,
        requests: usize,
    ) -> Self {
        let runtime = runtime();
        let progress = Progress { all: requests, ..Progress::default() };
        let next = Arc::new(AtomicUsize::new(0));
        let inside = runtime.enter();
        let tasks = (0..count).map(|_| {
            let client = client(&cluster.grpc_address);
            let asker = Asker { client, catalogue: catalogue.clone(), progress: progress.clone() };
            runtime.spawn(asker.run(Arc::clone(&next), requests))
        });
        let tasks = tasks.collect();
        drop(inside);
        Self { runtime, tasks, progress }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Waits for all answers.
    pub(super) fn finish(self) -> Tally {
        let mut tally = Tally::default();
        for task in self.tasks {
            tally.merge(self.runtime.block_on(task).unwrap());
        }
        tally
    }
}

struct Asker {
    client: InferenceClient<Channel>,
    catalogue: Catalogue,
    progress: Progress,
}

impl Asker {
    async fn run(mut self, next: Arc<AtomicUsize>, requests: usize) -> Tally {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return tally;
            }
            let began = Instant::now();
            if let Err(wrong) = self.one(number, &mut tally).await {
                tally.wrong.push(format!("request {number}: {wrong}"));
            }
            tally.longest = tally.longest.max(began.elapsed());
            self.progress.running.lock().unwrap().remove(&number);
            self.progress.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One request, asked until it is answered.
    async fn one(&mut self, number: usize, tally: &mut Tally) -> Result<(), String> {
        let entries = Arc::clone(&self.catalogue.0);
        let entry = &entries[number % entries.len()];
        let mut rng = SplitMix64::new(number as u64);
        let leaves_after = (rng.below(LEAVES) == 0).then(|| 1 + rng.below(8) as usize);
        let running = Arc::clone(&self.progress.running);
        loop {
            let (mut tokens, (gone, mut goes)) = (Tokens::new(), tokio::sync::oneshot::channel());
            let mut gone = Some(gone);
            running.lock().unwrap().insert(number, 0);
            let mut heard = |count| {
                running.lock().unwrap().insert(number, count);
                if leaves_after.is_some_and(|after| count >= after)
                    && let Some(gone) = gone.take()
                {
                    let _ = gone.send(());
                }
            };
            let asked = tokio::select! {
                biased;
                Ok(()) = &mut goes => None,
                asked = ask(&mut self.client, &entry.request, &mut tokens, &mut heard) => Some(asked?),
            };
            if !entry.expected.starts_with(&tokens) {
                return Err(format!("{tokens:?} is not how {:?} begins", entry.expected));
            }
            match asked {
                None => tally.went_away += 1,
                Some(Asked::Whole(usage)) => {
                    let billed = (usage.prompt, usage.generated);
                    let right = (entry.prompt_tokens, entry.expected.len() as u64);
                    if tokens.len() != entry.expected.len() || billed != right {
                        return Err(format!(
                            "{} tokens, billed {billed:?} not {right:?}",
                            tokens.len()
                        ));
                    }
                    tally.same += 1;
                }
                Some(Asked::Failed(status)) if may_ask_again(&status, tokens.is_empty()) => {
                    let coded = estafette_proto::error_code(&status).is_some();
                    *(if coded { &mut tally.again } else { &mut tally.broken }) += 1;
                    tokio::time::sleep(COME_BACK).await;
                    continue;
                }
                Some(Asked::Failed(status)) => return Err(format!("{status:?}")),
            }
            return Ok(());
        }
    }
}

/// The router has begun nothing, or is itself gone.
fn may_ask_again(status: &Status, nothing_came: bool) -> bool {
    match estafette_proto::error_code(status) {
        Some(ErrorCode::NoWorker | ErrorCode::Overloaded) => nothing_came,
        Some(_) => false,
        None => true,
    }
}
