//! Seeds in the ordinary test run, and the same seed twice.

use super::plan::{Bug, Plan};
use super::world::World;
use super::{Simulated, simulate};

/// Runs of the ordinary test run; another 10,000 are `examples/replay.rs FROM TO`.
const SEEDS: u64 = 10_000;

#[test]
fn no_seed_breaks_an_invariant() {
    let mut all = Simulated::default();
    let started = std::time::Instant::now();
    for seed in 0..SEEDS {
        let run = simulate(seed, false);
        if let Some(violation) = run.violation {
            panic!(
                "seed {seed}: {violation}\nreplay it: cargo run -p estafette-kv-transfer \
                 --features proof --example replay -- {seed}"
            );
        }
        all.completed += run.completed;
        all.failed += run.failed;
        all.units_again += run.units_again;
        all.blocks_kept += run.blocks_kept;
        all.faults += run.faults;
        all.events += run.events;
    }
    let rate = SEEDS as f64 / started.elapsed().as_secs_f64();
    println!("{SEEDS} seeds, {rate:.0} a second: {all}");
    assert!(all.completed > 2 * SEEDS && all.failed > SEEDS, "{all}");
    assert!(all.units_again > SEEDS / 10 && all.blocks_kept > SEEDS / 10, "{all}");
}

/// The first seed that finds `bug`, and what it finds.
fn finds(bug: Bug) -> (u64, String) {
    let run = |seed| World::new(Plan { bug: Some(bug), ..Plan::new(seed) }, false).run();
    let found = (0..2_000).find_map(|seed| run(seed).violation.map(|violation| (seed, violation)));
    let found = found.expect("the bug is found");
    println!("{bug:?}: seed {} finds {}", found.0, found.1);
    found
}

#[test]
fn known_bugs_are_found() {
    assert!(finds(Bug::FreesAtOnce).1.contains("ForeignStore"));
    assert!(finds(Bug::UncheckedUnits).1.contains("NotWhole"));
    let found = finds(Bug::UncheckedHeaders).1;
    assert!(found.contains("ForeignStore") || found.contains("NotWhole"), "{found}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..200 {
        let (first, second) = (simulate(seed, true), simulate(seed, true));
        assert!(!first.log.is_empty());
        assert_eq!(first, second, "seed {seed}");
    }
}
