//! Real processes, the real model, and a supervisor that ends, stops and drains workers at random moments while clients ask:
//! every answer must be the one that an undisturbed cluster gives.

mod chaos;
mod checks;
mod clients;
mod requests;
mod routers;

use crate::hand::HandMade;
use crate::process::Part;
use chaos::{Chaos, Phases};
use checks::Memory;
use clients::{Clients, Tally};
use requests::Catalogue;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct SoakOptions {
    /// Of requests, faults and moments.
    pub seed: u64,
    /// Requests while faults come.
    pub requests: usize,
    /// Faults of workers.
    pub faults: usize,
    /// Faults of the router afterwards: killed and stopped in turn.
    pub router_faults: usize,
    /// Requests at once.
    pub clients: usize,
    /// Different requests; each is asked for once before, undisturbed.
    pub catalogue: usize,
}

/// What was done; every check has passed.
#[derive(Debug)]
pub struct Report {
    options: SoakOptions,
    faults: BTreeMap<&'static str, usize>,
    phases: Phases,
    tally: Tally,
    router: Tally,
    retries: BTreeMap<&'static str, u64>,
    memory: Memory,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SoakOptions { seed, requests, faults, router_faults, .. } = self.options;
        writeln!(
            f,
            "seed {seed}: {requests} requests, {faults} faults, {router_faults} of the router"
        )?;
        writeln!(f, "faults: {}", counts(&self.faults))?;
        writeln!(f, "answers that faults found: {}", self.phases)?;
        writeln!(f, "while workers failed: {}", self.tally)?;
        writeln!(f, "while the router failed: {}", self.router)?;
        writeln!(f, "answers that went on elsewhere: {}", counts(&self.retries))?;
        writeln!(f, "resident memory: {}", self.memory)?;
        write!(f, "took {:.0} s", self.took.as_secs_f64())
    }
}

fn counts<T: fmt::Display>(counts: &BTreeMap<&'static str, T>) -> String {
    let each: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    each.join(", ")
}

/// The workers by name; a fault's supervisor replaces them.
pub(crate) type Workers = BTreeMap<&'static str, Part>;

const NAMES: [&str; 4] = ["prefill-0", "prefill-1", "decode-0", "decode-1"];
/// Workers that are stopped for longer are lost; others are not, and must not be.
const WORKER_TIMEOUT: &str = "3s";
/// Small steps make more moments to fail in.
const WORKER_FLAGS: [&str; 6] =
    ["--max-num-batched-tokens", "64", "--kv-memory", "64MiB", "--drain-timeout", "300ms"];

/// Runs a soak; panics at the first thing that is not as it must be, with the seed.
pub fn run(options: SoakOptions) -> Report {
    let began = Instant::now();
    let mut cluster = HandMade::start(&["--worker-timeout", WORKER_TIMEOUT], &WORKER_FLAGS);
    let mut workers: Workers = NAMES.map(|name| (name, cluster.worker(name))).into();
    cluster.wait_for_workers(NAMES.len() as u64);
    let catalogue = Catalogue::new(&cluster, options.seed, options.catalogue);
    let memory = Memory::at_rest(&cluster, &workers);

    let clients = Clients::start(&cluster, &catalogue, options.clients, options.requests);
    let mut chaos = Chaos::new(options.seed, &cluster, clients.progress());
    for number in 0..options.faults {
        chaos.wait_for_share(number as f64 / options.faults as f64, &workers);
        chaos.fault(&mut workers);
    }
    chaos.thaw_all(&workers);
    let tally = clients.finish();
    let (faults, phases) = chaos.ended();
    tally.check(options.requests, options.seed);
    tally.check_unbroken();
    checks::all_rests(&cluster, &mut workers);
    let memory = memory.now(&cluster, &workers);
    let retries = ["worker_lost", "worker_draining", "overloaded"]
        .map(|code| (code, cluster.metric("retries_total", &[code])));

    let router = routers::run(&mut cluster, &catalogue, &options);
    checks::all_rests(&cluster, &mut workers);
    checks::all_leave(&cluster, &mut workers);
    Report {
        options,
        faults,
        phases,
        tally,
        router,
        retries: retries.into(),
        memory,
        took: began.elapsed(),
    }
}
