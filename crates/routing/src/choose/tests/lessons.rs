//! What went wrong in production elsewhere, as far as a pure decision can get it wrong.

use super::*;

/// Dispatches `count` requests with no word from any worker in between; how many each slot got. The pool is a prefill
/// pool in front of one decode worker with room for all.
fn burst(pool: &mut [Candidate], count: usize, receipts: &mut Receipts) -> BTreeMap<u32, usize> {
    let (config, mut rng) = (RoutingConfig::default(), SplitMix64::new(11));
    let mut decode = idle(1_000);
    decode.max_waiting = u32::MAX;
    decode.step.per_prefill_token = 1.0;
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        for candidate in pool.iter_mut() {
            candidate.pending = receipts.pending(candidate.slot);
        }
        let decision = choose(&request(500), pool, &[decode], &config, &mut rng).unwrap();
        let Choice::Disaggregated { prefill, .. } = decision.choice else {
            panic!("{decision:?}");
        };
        *shares.entry(prefill).or_insert(0) += 1;
        let booking = Booking { prefill_tokens: decision.uncached_tokens, context_tokens: 500 };
        // Not given back: the burst is over before any of its legs ends.
        let _live = receipts.dispatched(prefill, booking);
    }
    shares
}

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

/// Herding: a burst between two load records spreads, because what was dispatched counts at once.
#[test]
fn a_burst_between_two_records_does_not_herd() {
    let shares = burst(&mut pool(0..10), 100, &mut Receipts::new());
    assert_eq!(shares.len(), 10);
    assert!(shares.values().all(|share| *share == 10), "{shares:?}");
}

/// The same with one worker that looks emptier than the others, as after a late record.
#[test]
fn the_emptiest_worker_is_filled_up_and_not_over() {
    let mut workers = pool(0..5);
    for worker in &mut workers[1..] {
        worker.load.waiting_prefill_tokens = 5_000;
    }
    let shares = burst(&mut workers, 40, &mut Receipts::new());
    // 10 prompts of 500 tokens bring it up to the others, and the other 30 are for all five.
    assert_eq!(shares[&0], 16, "{shares:?}");
}

/// A prefix that all requests share must not draw all of them to its first holder.
#[test]
fn one_shared_block_does_not_attract_everything() {
    let mut workers = pool(0..4);
    workers[2].cached_blocks = 1;
    let shares = burst(&mut workers, 80, &mut Receipts::new());
    assert_eq!(shares.len(), 4, "{shares:?}");
    assert!(shares[&2] <= 24, "{shares:?}");
}

/// A hot prefix gets a second holder once its first one is behind, instead of a queue.
#[test]
fn a_saturated_holder_of_a_hot_prefix_leads_to_a_second_one() {
    let mut workers = pool(0..2);
    workers[0].cached_blocks = 30;
    let decode = [idle(9)];
    let choice = |workers: &[Candidate]| decide(&request(500), workers, &decode).unwrap().choice;
    assert_eq!(choice(&workers), Choice::Disaggregated { prefill: 0, decode: 9 });
    workers[0].load.waiting_prefill_tokens = 4_000;
    assert_eq!(choice(&workers), Choice::Disaggregated { prefill: 1, decode: 9 });
}

/// A miss is cheap when nobody waits and dear when everybody does.
#[test]
fn the_same_lead_in_queue_is_worth_less_than_a_hit_when_the_pool_is_behind() {
    let mut workers = pool(0..2);
    workers[0].cached_blocks = 30;
    let choice = |workers: &[Candidate]| {
        let mut decode = idle(9);
        decode.step.per_prefill_token = 1.0;
        decide(&request(500), workers, &[decode]).unwrap().choice
    };
    workers[0].load.waiting_prefill_tokens = 1_500;
    assert_eq!(choice(&workers), Choice::Disaggregated { prefill: 1, decode: 9 });
    for worker in &mut workers {
        worker.load.waiting_prefill_tokens += 40_000;
    }
    assert_eq!(choice(&workers), Choice::Disaggregated { prefill: 0, decode: 9 });
}

/// Cold and just-started workers get their share.
#[test]
fn a_worker_that_has_just_started_gets_work() {
    let mut workers = pool(0..3);
    for worker in &mut workers[..2] {
        worker.cached_blocks = 6;
        worker.load.waiting_prefill_tokens = 1_000;
    }
    let shares = burst(&mut workers, 30, &mut Receipts::new());
    assert!(shares[&2] >= 8, "{shares:?}");
}

/// Doubling the size of a block changes nothing while hits end at both sizes' borders.
#[test]
fn the_size_of_a_block_does_not_change_the_choice() {
    let config = RoutingConfig::default();
    for cached in (0..1_600).step_by(64) {
        let seconds = [16, 32, 64].map(|block_size| {
            let request =
                Request { prompt_tokens: 1_601, block_size, max_tokens: 64, session: None };
            let (mut prefill, mut decode) = (idle(0), idle(1));
            prefill.cached_blocks = cached / block_size;
            decode.cached_blocks = cached / block_size / 2 * 2;
            let explanation = explain(&request, &[prefill], &[decode], &config);
            explanation.prefill[0].score.unwrap().total()
        });
        assert!(seconds.iter().all(|s| (s - seconds[0]).abs() < 1e-12), "{cached}: {seconds:?}");
    }
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

/// Full and leaving workers say nothing about the load of those that can be chosen.
#[test]
fn workers_that_cannot_be_chosen_are_in_no_average() {
    let config = RoutingConfig::default();
    let mut workers = pool(0..2);
    let before = explain(&request(300), &workers, &pool(5..6), &config).prefill_pressure;
    let mut leaving = idle(2);
    leaving.draining = true;
    leaving.load.waiting_prefill_tokens = 1_000_000;
    workers.push(leaving);
    let after = explain(&request(300), &workers, &pool(5..6), &config).prefill_pressure;
    assert_eq!(before, after);
}
