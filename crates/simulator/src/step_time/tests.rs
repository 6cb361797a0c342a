use super::*;
use crate::presets::{DEFAULT_PRESET, preset, preset_names};

fn prompt(n: u32, p: u32) -> StepWork {
    StepWork { chunks: vec![(n, p)], ..StepWork::default() }
}

fn decode(sequences: u32, context: u32) -> StepWork {
    let context_tokens = u64::from(sequences) * u64::from(context);
    StepWork { sequences, context_tokens, ..StepWork::default() }
}

#[test]
fn a_line_is_what_its_formula_says() {
    let times = preset(DEFAULT_PRESET).unwrap();
    // 7.18 + 0.04151·1000 + 1.084e-6·1000·(4096 + 500) ms, rounded up.
    assert_eq!(times.time(&prompt(1000, 4096)).micros, 53_673);
    // 8.76 + 0.03622·64 + 1.318e-5·64·2048 ms.
    assert_eq!(times.time(&decode(64, 2048)).micros, 12_806);
}

#[test]
fn a_mixed_step_pays_one_base() {
    let times = preset(DEFAULT_PRESET).unwrap();
    let mixed = StepWork { chunks: vec![(512, 0)], ..decode(8, 1024) };
    let alone = times.time(&prompt(512, 0)).micros + times.time(&decode(8, 1024)).micros;
    let saved = alone - times.time(&mixed).micros;
    assert!((7180..=7182).contains(&saved), "the smaller base, 7.18 ms, is saved, not {saved}");
}

#[test]
fn a_measured_mixed_step_is_the_chunks_and_what_decode_rows_add() {
    let mixed_ms = Some(MixedTime { base: 0.5, per_sequence: 0.25 });
    let times = StepTimes { mixed_ms, ..preset(DEFAULT_PRESET).unwrap() };
    let mixed = StepWork { chunks: vec![(512, 0)], ..decode(8, 1024) };
    // 0.5 + 0.25·8 + 1.318e-5·8·1024 ms.
    let added = times.time(&mixed).micros - times.time(&prompt(512, 0)).micros;
    assert!((2607..=2609).contains(&added), "{added}");
}

#[test]
fn chunks_follow_their_table_and_pairs_come_on_top() {
    let mut times = preset(DEFAULT_PRESET).unwrap();
    times.prefill_ms.table = vec![(1, 4.0), (101, 24.0)];
    times.prefill_ms.per_token_pair = 1e-3;
    // 4 + 20·50/100 + 1e-3·51·(1000 + 25.5) ms.
    assert_eq!(times.time(&prompt(51, 1000)).micros, 66_301);
    let two = StepWork { chunks: vec![(26, 1000), (25, 1000)], ..StepWork::default() };
    assert!(times.time(&two).micros < 66_301, "chunks do not attend to each other");
}

#[test]
fn what_a_neighbour_adds_depends_on_the_kind_of_step() {
    let mut times = preset(DEFAULT_PRESET).unwrap();
    assert_eq!(times.time(&decode(1, 1)).beside_permille, 1000, "half of the cores each");
    times.sharing = Some(Sharing { prompts: 1.5, decodes: 2.25 });
    assert_eq!(times.time(&decode(1, 1)).beside_permille, 1250);
    assert_eq!(times.time(&prompt(1, 1)).beside_permille, 500);
}

#[test]
fn moe_decode_follows_the_table_and_not_the_line() {
    let times = preset("deepseek-v3-h200-tp8-sglang").unwrap();
    assert_eq!(times.time(&decode(1, 2048)).micros, 10_900);
    assert_eq!(times.time(&decode(256, 2048)).micros, 42_700);
    assert_eq!(times.time(&decode(24, 2048)).micros, 21_050, "half-way between 16 and 32");
    let line = |b: f64| 12.80 + 0.11491 * b + 1.732e-5 * b * 2048.0;
    assert!(line(1.0) / 10.9 > 1.15 && line(256.0) / 42.7 > 1.15, "the line is too high");
}

#[test]
fn what_lies_beyond_the_grid_is_flagged() {
    for name in preset_names() {
        let times = preset(name).unwrap();
        assert!(!times.time(&prompt(32_768, 65_536)).extrapolated);
        assert!(times.time(&prompt(32_769, 0)).extrapolated);
        assert!(times.time(&prompt(1, 65_537)).extrapolated);
        assert!(!times.time(&decode(256, 32_768)).extrapolated);
        assert!(times.time(&decode(257, 512)).extrapolated);
        assert!(times.time(&decode(1, 40_000)).extrapolated);
    }
}

#[test]
fn a_prompt_alone_takes_the_sum_of_its_chunks() {
    let times = preset(DEFAULT_PRESET).unwrap();
    let parts = [(8192, 0), (8192, 8192), (100, 16_384)];
    let sum: u64 = parts.iter().map(|&(n, p)| times.time(&prompt(n, p)).micros).sum();
    assert_eq!(times.isolated_micros(16_484, 8192), sum);
}

#[test]
fn a_file_is_read_back_as_it_was_written() {
    for name in preset_names() {
        let times = preset(name).unwrap();
        let json = serde_json::to_string(&times).unwrap();
        assert_eq!(StepTimes::from_json(&json).unwrap(), times);
    }
}

#[test]
fn figures_that_cannot_be_are_refused() {
    let good = serde_json::to_value(preset("deepseek-v3-h200-tp8-vllm").unwrap()).unwrap();
    let cases = [
        ("/prefill_ms/base", serde_json::json!(-1)),
        ("/decode_ms/per_context_token", serde_json::json!(-1e-9)),
        ("/decode_ms/table", serde_json::json!([[4, 1.0], [4, 2.0]])),
        ("/decode_ms/table", serde_json::json!([[4, 1.0]])),
        ("/decode_ms/table_context", serde_json::json!(0)),
        ("/prefill_ms/table", serde_json::json!([[4, 1.0]])),
        ("/mixed_ms", serde_json::json!({"base": -1.0, "per_sequence": 1.0})),
        ("/sharing", serde_json::json!({"prompts": 0.5, "decodes": 1.0})),
        ("/kv_tokens", serde_json::json!(0)),
        ("/valid", serde_json::json!({})),
    ];
    for (field, value) in cases {
        let mut bad = good.clone();
        let (parent, name) = field.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = value;
        let error = StepTimes::from_json(&bad.to_string()).unwrap_err();
        assert!(matches!(error, SimulateError::StepTimes(_)), "{field}");
    }
    assert!(StepTimes::from_json("{\"nome\": 1}").is_err());
}

#[test]
fn an_unknown_preset_names_those_there_are() {
    let error = preset("gpt").unwrap_err().to_string();
    assert!(error.contains("`gpt`") && error.contains(DEFAULT_PRESET), "{error}");
}
