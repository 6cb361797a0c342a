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
