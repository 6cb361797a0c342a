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

/// Whoever stops, all work is billed once: what the bill says of it is what the attempts did.
#[test]
fn a_client_that_stops_between_two_attempts_pays_for_the_last_one_once() {
    let work = |usage: &Usage| usage.computed + usage.recomputed + usage.generated;
    let (first, second) = (usage(0, 100, 7), usage(90, 10, 9));
    let mut spent = Spent::default();
    spent.failed(&first, first);
    assert_eq!(spent.bill(), first, "nothing was done twice");
    spent.failed(&second, second);
    assert_eq!(spent.bill(), Usage { recomputed: 107, ..second });
    assert_eq!(work(&spent.bill()), work(&first) + work(&second));
    let third = usage(96, 4, 12);
    let billed = spent.bill_with(third);
    assert_eq!(work(&billed), work(&first) + work(&second) + work(&third));
}
