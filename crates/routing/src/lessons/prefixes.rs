//! Prefixes: what is cached draws requests, and must not draw all of them.

use super::herding::burst;
use super::town::Town;
use super::*;

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

/// The last token of a prompt is never free, or a product of terms becomes zero everywhere.
#[test]
fn a_fully_cached_prompt_still_costs_a_token() {
    let request =
        |prompt_tokens| Request { prompt_tokens, block_size: 16, max_tokens: 1, session: None };
    assert_eq!(request(64).uncached_tokens(4), 16);
    assert_eq!(request(65).uncached_tokens(4), 1);
    assert_eq!(request(65).uncached_tokens(99), 1);
    assert_eq!(request(5).uncached_tokens(0), 5);
}

/// A discount on load must never become one on the request's own work.
#[test]
fn the_requests_own_work_counts_in_full_whatever_the_load() {
    let own = |load: LoadRecord, pending: Pending| {
        let mut candidate = idle(0);
        (candidate.load, candidate.pending) = (load, pending);
        let explanation =
            explain(&request(800), &[candidate], &[candidate], &RoutingConfig::default());
        (explanation.prefill[0].score.unwrap().prefill, explanation.prefill[0].uncached_tokens)
    };
    let light = own(nothing(), Pending::default());
    let waiting = LoadRecord { waiting_sequences: 9, waiting_prefill_tokens: 90_000, ..nothing() };
    let pending = Pending { sequences: 5, prefill_tokens: 9_000, context_tokens: 9_000 };
    assert_eq!(own(waiting, pending), light);
    assert_eq!(light.1, 800);
}

/// A system prompt of a thousand tokens in front of short questions, more of them than one worker can take: in the end all
/// workers hold it and have their share.
#[test]
fn short_prompts_with_one_system_prompt_do_not_pin_to_its_first_holder() {
    let mut town = Town::new(4, 1);
    town.prompt_tokens = 1_100;
    town.shared_blocks = 64;
    town.answer_tokens = 60;
    town.run(400, 25);
    assert_eq!(town.holders(), 4);
    let shares = town.shares();
    assert!(shares.iter().all(|share| (80..120).contains(share)), "{shares:?}");
}
