use super::*;

fn usage(cached: u64, computed: u64, generated: u64) -> Usage {
    Usage { prompt: cached + computed, cached, computed, recomputed: 0, generated }
}

#[test]
fn a_handed_over_prompt_is_billed_once() {
    let legs = LegUsage { prefill: Some(usage(16, 84, 1)), decode: Some(usage(0, 0, 9)) };
    assert_eq!(legs.billed(100), usage(16, 84, 10));
    assert_eq!(legs.done(), usage(16, 84, 10));
}

#[test]
fn without_a_hand_off_the_decode_worker_counts_everything() {
    let legs = LegUsage { prefill: None, decode: Some(usage(32, 68, 10)) };
    assert_eq!(legs.billed(100), usage(32, 68, 10));
}

#[test]
fn after_a_failed_hand_off_the_first_computation_is_not_billed() {
    let legs = LegUsage { prefill: Some(usage(0, 100, 1)), decode: Some(usage(0, 100, 10)) };
    let billed = legs.billed(100);
    assert_eq!(billed, Usage { recomputed: 100, ..usage(0, 100, 10) });
    assert!(billed.is_balanced());
    assert_eq!(legs.done().computed, 200);
}
