//! Ties: the lowest number, the name or the order of a list is no tie-break.

use super::*;

/// Ties: the lowest number is no tie-break. Equal workers get equal shares, and one seed gives one sequence.
#[test]
fn ties_are_drawn_uniformly_and_reproducibly() {
    let (prefill, decode) = (pool(0..8), pool(8..16));
    let draw = |seed| {
        let (config, mut rng) = (RoutingConfig::default(), SplitMix64::new(seed));
        (0..4_000)
            .map(|_| choose(&request(300), &prefill, &decode, &config, &mut rng).unwrap().choice)
            .collect::<Vec<_>>()
    };
    let mut shares = BTreeMap::new();
    for choice in draw(5) {
        let Choice::Disaggregated { prefill, decode } = choice else { panic!("{choice:?}") };
        *shares.entry(prefill).or_insert(0) += 1;
        *shares.entry(decode).or_insert(0) += 1;
    }
    assert_eq!(shares.len(), 16);
    assert!(shares.values().all(|share| (400..600).contains(share)), "{shares:?}");
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
}

/// Learned curves are never equal to the last bit; the fastest by a hair must not get everything.
#[test]
fn workers_that_differ_by_a_hair_are_equal() {
    let (config, mut rng) = (RoutingConfig::default(), SplitMix64::new(2));
    let mut workers = pool(0..5);
    for (i, worker) in workers.iter_mut().enumerate() {
        worker.step.base *= 1.0 + i as f64 * 1e-3;
    }
    let mut shares = [0; 5];
    for _ in 0..1_000 {
        let decision = choose(&request(200), &[], &workers, &config, &mut rng).unwrap();
        let Choice::Aggregated { decode } = decision.choice else { panic!("{decision:?}") };
        shares[decode as usize] += 1;
    }
    assert!(shares.iter().all(|share| *share > 100), "{shares:?}");
}

/// The order in which workers are listed changes nothing.
#[test]
fn the_order_of_the_candidates_does_not_matter() {
    let mut workers = pool(0..6);
    for (i, worker) in workers.iter_mut().enumerate() {
        worker.load.waiting_prefill_tokens = 700 * (5 - i as u64);
        worker.cached_blocks = 3 * i as u32;
    }
    let forward = decide(&request(600), &workers, &pool(9..10)).unwrap();
    workers.reverse();
    assert_eq!(decide(&request(600), &workers, &pool(9..10)).unwrap(), forward);
}

/// A cluster that starts again under the same names, and names in the order of addresses, favour nobody.
#[test]
fn names_slots_and_restarts_do_not_decide_ties() {
    let mut shares: BTreeMap<u64, usize> = BTreeMap::new();
    for start in 0..400 {
        let mut fleet = Fleet::new(RoutingConfig::default());
        let mut rng = SplitMix64::new(start);
        for slot in 0..5 {
            // Each worker has another slot after each start.
            let name = (u64::from(slot) + start) % 5;
            fleet.join(slot, WorkerTraits { name_hash: name, ..traits(slot) });
            fleet.heard(slot, &nothing(), false);
        }
        for _ in 0..2 {
            let decision = fleet.choose(&request(300), |_| 0, |_| true, &mut rng).unwrap();
            let Choice::Aggregated { decode } = decision.choice else { panic!("{decision:?}") };
            *shares.entry(fleet.worker(decode).unwrap().traits().name_hash).or_default() += 1;
        }
    }
    assert_eq!(shares.len(), 5);
    assert!(shares.values().all(|share| (110..210).contains(share)), "{shares:?}");
}
