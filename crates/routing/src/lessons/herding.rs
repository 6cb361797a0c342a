//! Herding: many choices from one picture of the load must not all be the same choice.

use super::*;

/// Dispatches `count` requests with no word from any worker in between; how many each slot got. The pool is a prefill
/// pool in front of one decode worker with room for all.
pub(super) fn burst(
    pool: &mut [Candidate],
    count: usize,
    receipts: &mut Receipts,
) -> BTreeMap<u32, usize> {
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
