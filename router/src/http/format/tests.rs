use super::*;

fn usage(prompt: u64, cached: u64, generated: u64) -> Usage {
    Usage { prompt, cached, computed: prompt - cached, recomputed: 0, generated }
}

#[test]
fn a_prompt_is_billed_once_for_all_its_answers() {
    let answers = [usage(10, 0, 3), usage(10, 8, 4), usage(20, 16, 5), usage(20, 16, 6)];
    assert_eq!(total(&answers, 2), usage(30, 16, 18));
    assert_eq!(total(&answers[..1], 1), usage(10, 0, 3));
}
