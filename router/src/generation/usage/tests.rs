use super::*;

fn usage(cached: u64, computed: u64, generated: u64) -> Usage {
    Usage { prompt: cached + computed, cached, computed, recomputed: 0, generated }
}

#[test]
fn a_handed_over_prompt_is_billed_once() {
    let legs = LegUsage {
        disaggregated: true,
        prefill: Some(usage(16, 84, 1)),
        decode: Some(usage(0, 0, 9)),
    };
    assert_eq!(legs.billed(100, 0), usage(16, 84, 10));
    assert_eq!(legs.done(), usage(16, 84, 10));
}

#[test]
fn without_a_hand_off_the_decode_worker_counts_everything() {
    let legs = LegUsage { disaggregated: false, prefill: None, decode: Some(usage(32, 68, 10)) };
    assert_eq!(legs.billed(100, 0), usage(32, 68, 10));
}

#[test]
fn after_a_failed_hand_off_the_first_computation_is_not_billed() {
    let legs = LegUsage {
        disaggregated: true,
        prefill: Some(usage(0, 100, 1)),
        decode: Some(usage(0, 100, 10)),
    };
    let billed = legs.billed(100, 0);
    assert_eq!(billed, Usage { recomputed: 100, ..usage(0, 100, 10) });
    assert!(billed.is_balanced());
    assert_eq!(legs.done().computed, 200);
}

#[test]
fn a_count_that_was_lost_does_not_make_the_answer_shorter() {
    let adopted = LegUsage { disaggregated: true, prefill: None, decode: Some(usage(0, 0, 9)) };
    assert_eq!(adopted.billed(100, 10), usage(0, 100, 10));
    let silent = LegUsage { disaggregated: false, prefill: None, decode: None };
    assert_eq!(silent.billed(100, 7), usage(0, 100, 7));
}

fn work(usage: &Usage) -> u64 {
    usage.computed + usage.recomputed + usage.generated
}

/// Whoever stops, all work is billed once: what the bill says of it is what the attempts did.
#[test]
fn a_client_that_stops_between_two_attempts_pays_for_the_last_one_once() {
    let (first, second) = (usage(0, 100, 7), usage(90, 10, 9));
    let mut spent = Spent::default();
    spent.failed(&first, 0, first);
    assert_eq!(spent.bill(), first, "nothing was done twice");
    spent.failed(&second, 0, second);
    assert_eq!(spent.bill(), Usage { recomputed: 107, ..second });
    assert_eq!(work(&spent.bill()), work(&first) + work(&second));
    let third = usage(96, 4, 12);
    let billed = spent.bill_with(third);
    assert_eq!(work(&billed), work(&first) + work(&second) + work(&third));
}

/// An answer of 30 tokens, of which the client gets 12, 0 and 18 from three attempts.
#[test]
fn tokens_that_the_client_has_are_billed_as_generated_and_the_rest_as_done_twice() {
    let first = usage(0, 100, 14);
    let second = Usage { recomputed: 11, ..usage(96, 4, 3) };
    let third = Usage { recomputed: 1, ..usage(96, 4, 18) };
    let mut spent = Spent::default();
    spent.failed(&first, 12, first);
    spent.failed(&second, 0, second);
    let billed = spent.bill_with(third);
    assert_eq!((billed.prompt, billed.cached, billed.generated), (100, 96, 30));
    assert_eq!(work(&billed), work(&first) + work(&second) + work(&third));
    assert_eq!(spent.bill().generated, 15);
    assert_eq!(work(&spent.bill()), work(&first) + work(&second));
}

#[test]
fn a_count_that_was_lost_with_its_worker_does_not_take_the_clients_tokens_off_the_bill() {
    let lost = LegUsage { disaggregated: false, prefill: None, decode: None };
    let mut spent = Spent::default();
    spent.failed(&lost.done(), 12, lost.billed(100, 12));
    assert_eq!(spent.bill(), usage(0, 100, 12));
    assert_eq!(spent.bill_with(usage(0, 100, 18)), usage(0, 100, 30));
}
