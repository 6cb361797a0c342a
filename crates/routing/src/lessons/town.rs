//! A town of decode workers in virtual time, in front of which routers stand: enough to see what choices do to each other.
//!
//! A worker computes prompts in their order, up to 512 tokens in a step, and a token of each running answer with it; its step
//! takes 4 ms, 0.1 ms for each prompt token and 0.2 ms for each answer. After each step every router hears its record; the
//! router that sent a leg hears of its first token and of its end.

use super::{nothing, traits};
use crate::{Choice, Fleet, Receipt, Request, RoutingConfig};
use estafette_types::{LoadRecord, SplitMix64};
use std::collections::{BTreeMap, VecDeque};

/// A request on its worker.
#[derive(Debug)]
struct Leg {
    number: usize,
    router: usize,
    context: u64,
    /// Prompt tokens still to compute.
    missing: u64,
    /// Answer tokens still to come.
    left: u64,
}

#[derive(Debug, Default)]
struct Worker {
    prompts: VecDeque<Leg>,
    answers: Vec<Leg>,
    /// Holds the prefix that all requests share.
    holds: bool,
    /// When its step ends, in microseconds.
    busy_until: Option<u64>,
    load: LoadRecord,
    chosen: usize,
}

impl Worker {
    fn legs(&self) -> usize {
        self.prompts.len() + self.answers.len()
    }

    /// Runs a step; how long it takes, in microseconds. Whoever has got his first token, and whoever has all.
    fn step(&mut self, first: &mut Vec<Leg>, ended: &mut Vec<Leg>) -> u64 {
        let mut rows = 512;
        for leg in &mut self.answers {
            (leg.left, leg.context) = (leg.left - 1, leg.context + 1);
        }
        let answers = self.answers.len() as u64;
        self.load.done.generated += answers;
        while let Some(leg) = self.prompts.front_mut().filter(|_| rows > 0) {
            let now = leg.missing.min(rows);
            (leg.missing, rows) = (leg.missing - now, rows - now);
            if leg.missing > 0 {
                break;
            }
            first.extend(self.prompts.pop_front());
        }
        self.load.done.computed += 512 - rows;
        ended.extend(self.answers.extract_if(.., |leg| leg.left == 0));
        self.load.steps += 1;
        self.load.step_micros = 4_000 + 100 * (512 - rows) + 200 * answers;
        self.load.step_micros
    }

    fn record(&self) -> LoadRecord {
        let running = self.prompts.front().filter(|_| self.busy_until.is_some());
        let missing = |legs: &mut dyn Iterator<Item = &Leg>| legs.map(|leg| leg.missing).sum();
        let skipped = usize::from(running.is_some());
        LoadRecord {
            waiting_sequences: (self.prompts.len() - skipped) as u64,
            waiting_prefill_tokens: missing(&mut self.prompts.iter().skip(skipped)),
            prefilling_sequences: skipped as u64,
            running_prefill_tokens: missing(&mut running.into_iter()),
            decoding_sequences: self.answers.len() as u64,
            decoding_tokens: self.answers.iter().map(|leg| leg.context).sum(),
            ..self.load
        }
    }
}

#[derive(Debug)]
struct Router {
    fleet: Fleet,
    rng: SplitMix64,
    receipts: BTreeMap<usize, Receipt>,
}

/// Workers and routers, and what is asked of them.
#[derive(Debug)]
pub(super) struct Town {
    workers: Vec<Worker>,
    routers: Vec<Router>,
    now: u64,
    arrivals: SplitMix64,
    sent: usize,
    pub(super) prompt_tokens: u32,
    pub(super) answer_tokens: u64,
    /// Leading blocks that all prompts share.
    pub(super) shared_blocks: u32,
}

impl Town {
    pub(super) fn new(workers: usize, routers: usize) -> Self {
        let router = |seed| Router {
            fleet: Fleet::new(RoutingConfig::default()),
            rng: SplitMix64::new(seed),
            receipts: BTreeMap::new(),
        };
        let mut town = Self {
            workers: Vec::new(),
            routers: (0..routers as u64).map(router).collect(),
            now: 0,
            arrivals: SplitMix64::new(99),
            sent: 0,
            prompt_tokens: 200,
            answer_tokens: 40,
            shared_blocks: 0,
        };
        for _ in 0..workers {
            town.join();
        }
        town
    }

    /// A worker comes; its number.
    pub(super) fn join(&mut self) -> usize {
        let slot = self.workers.len() as u32;
        self.workers.push(Worker { load: nothing(), ..Worker::default() });
        for router in &mut self.routers {
            router.fleet.join(slot, traits(slot));
            router.fleet.heard(slot, &nothing(), false);
        }
        slot as usize
    }

    /// How many requests of the last run each worker got.
    pub(super) fn shares(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.chosen).collect()
    }

    /// Workers that hold the shared prefix.
    pub(super) fn holders(&self) -> usize {
        self.workers.iter().filter(|worker| worker.holds).count()
    }

    /// Sends `count` requests, `gap_millis` apart on average, and lets all end. By how much the busiest worker had more legs
    /// than the least busy one, at most.
    pub(super) fn run(&mut self, count: usize, gap_millis: u64) -> usize {
        self.workers.iter_mut().for_each(|worker| worker.chosen = 0);
        let mut uneven = 0;
        for _ in 0..count {
            let until = self.now + self.arrivals.below(2_000 * gap_millis);
            self.work(until);
            self.now = until;
            self.send();
            let legs = || self.workers.iter().map(Worker::legs);
            uneven = uneven.max(legs().max().unwrap_or(0) - legs().min().unwrap_or(0));
        }
        self.work(u64::MAX);
        assert!(self.routers.iter().all(|router| router.receipts.is_empty()), "every leg ends");
        uneven
    }

    fn send(&mut self) {
        let (number, at) = (self.sent, self.sent % self.routers.len());
        self.sent += 1;
        let request = Request {
            prompt_tokens: self.prompt_tokens,
            block_size: 16,
            max_tokens: self.answer_tokens as u32,
            session: None,
        };
        let (workers, shared) = (&self.workers, self.shared_blocks);
        let cached = |slot: u32| if workers[slot as usize].holds { shared } else { 0 };
        let Router { fleet, rng, receipts } = &mut self.routers[at];
        let decision = fleet.choose(&request, cached, |_| true, rng).unwrap();
        let Choice::Aggregated { decode } = decision.choice else { panic!("{decision:?}") };
        receipts.insert(number, fleet.book(decode, &request, cached(decode), true));
        let leg = Leg {
            number,
            router: at,
            context: u64::from(self.prompt_tokens),
            missing: u64::from(request.uncached_tokens(cached(decode))),
            left: self.answer_tokens,
        };
        let worker = &mut self.workers[decode as usize];
        worker.chosen += 1;
        worker.prompts.push_back(leg);
        worker.busy_until.get_or_insert(self.now);
    }

    /// Runs the steps that end until then.
    fn work(&mut self, until: u64) {
        loop {
            let ends =
                self.workers.iter().enumerate().filter_map(|(i, w)| Some((w.busy_until?, i)));
            let Some((at, i)) = ends.min().filter(|(at, _)| *at <= until) else { return };
            self.step(at, i);
        }
    }

    fn step(&mut self, at: u64, i: usize) {
        let (mut first, mut ended) = (Vec::new(), Vec::new());
        let worker = &mut self.workers[i];
        let micros = worker.step(&mut first, &mut ended);
        worker.holds |= !first.is_empty();
        for leg in &first {
            let router = &mut self.routers[leg.router];
            router.fleet.taken_in(&router.receipts[&leg.number]);
        }
        for leg in ended {
            let router = &mut self.routers[leg.router];
            router.fleet.finished(router.receipts.remove(&leg.number).unwrap());
        }
        worker.answers.append(&mut first);
        worker.busy_until = (worker.legs() > 0).then_some(at + micros);
        let record = worker.record();
        for router in &mut self.routers {
            router.fleet.heard(i as u32, &record, false);
        }
    }
}
