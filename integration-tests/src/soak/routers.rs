//! The router itself fails. When it is killed, clients see their connections break and ask again, and workers end what nobody
//! wants any more; when it is stopped, everything goes on where it was.

use super::SoakOptions;
use super::clients::{Clients, Tally};
use super::requests::Catalogue;
use crate::eventually;
use crate::hand::HandMade;
use estafette_types::SplitMix64;
use std::time::Duration;

/// Requests around each fault.
const REQUESTS: usize = 12;

pub(super) fn run(cluster: &mut HandMade, catalogue: &Catalogue, options: &SoakOptions) -> Tally {
    let mut all = Tally::default();
    let mut rng = SplitMix64::new(options.seed ^ 0x4007);
    for number in 0..options.router_faults {
        let clients = Clients::start(cluster, catalogue, options.clients, REQUESTS);
        let progress = clients.progress();
        assert!(eventually(|| progress.phases()[2] > 0 || progress.share() > 0.5));
        std::thread::sleep(Duration::from_millis(rng.below(300)));
        if number.is_multiple_of(2) {
            cluster.replace_router();
        } else {
            cluster.router.freeze();
            std::thread::sleep(Duration::from_millis(500 + rng.below(5_000)));
            cluster.router.thaw();
        }
        let tally = clients.finish();
        tally.check(REQUESTS, options.seed);
        all.merge(tally);
        cluster.wait_for_workers(super::NAMES.len() as u64);
        cluster.wait_until_idle();
    }
    all
}
