use super::*;

const NONE: History<'_> = History { tokens: &[], prompt_len: 0 };

fn choose(logits: &[f32], params: &SamplingParams, history: History<'_>) -> TokenId {
    sample(logits, params, history, &ReferenceBackend, &mut Scratch::default()).token
}

/// How often each token is drawn over many positions.
fn histogram(logits: &[f32], params: &SamplingParams, draws: usize) -> Vec<usize> {
    let mut counts = vec![0; logits.len()];
    for seed in 0..draws as u64 {
        let params = SamplingParams { seed, ..params.clone() };
        counts[choose(logits, &params, NONE) as usize] += 1;
    }
    counts
}

#[test]
fn greedy_takes_the_largest_and_ties_go_to_the_lowest_id() {
    let greedy = SamplingParams::greedy();
    assert_eq!(choose(&[0.0, 3.0, 3.0, 1.0], &greedy, NONE), 1);
    assert_eq!(choose(&[f32::NAN, 3.0], &greedy, NONE), 1);
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [0.0, 1.0, 2.0, -1.0];
    let counts = histogram(&logits, &SamplingParams::default(), 40_000);
    let total: f32 = logits.iter().map(|x: &f32| x.exp()).sum();
    for (logit, count) in logits.iter().zip(counts) {
        let expected = logit.exp() / total * 40_000.0;
        assert!((count as f32 - expected).abs() < 5.0 * expected.sqrt(), "{count} {expected}");
    }
}

#[test]
fn low_temperature_sharpens() {
    let params = SamplingParams { temperature: 0.1, ..Default::default() };
    assert!(histogram(&[0.0, 1.0], &params, 1000)[1] > 990);
}

#[test]
fn filters_keep_what_they_say() {
    // Probabilities 0.5, 0.3, 0.15, 0.05.
    let logits: Vec<f32> = [0.05f32, 0.5, 0.15, 0.3].iter().map(|p| p.ln()).collect();
    let seen = |params: SamplingParams| -> Vec<bool> {
        histogram(&logits, &params, 2000).into_iter().map(|n| n > 0).collect()
    };
    let base = SamplingParams::default;
    assert_eq!(seen(SamplingParams { top_k: 2, ..base() }), [false, true, false, true]);
    assert_eq!(seen(SamplingParams { top_p: 0.79, ..base() }), [false, true, false, true]);
    assert_eq!(seen(SamplingParams { top_p: 0.81, ..base() }), [false, true, true, true]);
    assert_eq!(seen(SamplingParams { min_p: 0.2, ..base() }), [false, true, true, true]);
    assert_eq!(
        seen(SamplingParams { top_k: 3, top_p: 0.5, ..base() }),
        [false, true, false, false]
    );
    assert_eq!(seen(SamplingParams { top_k: 9, ..base() }), [true; 4]);
}

#[test]
fn the_draw_depends_on_seed_and_position_alone() {
    let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32 * 0.1).collect();
    let at = |seed, tokens: &[TokenId]| {
        let params = SamplingParams { seed, ..Default::default() };
        choose(&logits, &params, History { tokens, prompt_len: 1 })
    };
    assert_eq!(at(1, &[5, 6]), at(1, &[7, 8]));
    let by_position: Vec<_> = (1..20).map(|n| at(1, &vec![0; n])).collect();
    let by_seed: Vec<_> = (1..20).map(|seed| at(seed, &[0])).collect();
    assert!(by_position.windows(2).any(|w| w[0] != w[1]));
    assert!(by_seed.windows(2).any(|w| w[0] != w[1]));
}

#[test]
fn penalties_touch_the_right_tokens() {
    let history = History { tokens: &[0, 1, 1, 1], prompt_len: 1 };
    let penalised = |params: SamplingParams| {
        let mut logits = vec![2.0, 2.0, -2.0, 2.0];
        let mut counts = Vec::new();
        penalise(&mut logits, &mut counts, &params, history);
        assert_eq!(counts, [0; 4]);
        logits
    };
    let base = SamplingParams::default;
    // Repetition: prompt and answer. Presence and frequency: the answer alone.
    let repetition = penalised(SamplingParams { repetition_penalty: 2.0, ..base() });
    assert_eq!(repetition, [1.0, 1.0, -2.0, 2.0]);
    assert_eq!(
        penalised(SamplingParams { presence_penalty: 0.5, ..base() }),
        [2.0, 1.5, -2.0, 2.0]
    );
    assert_eq!(
        penalised(SamplingParams { frequency_penalty: 0.5, ..base() }),
        [2.0, 0.5, -2.0, 2.0]
    );
}

#[test]
fn logprobs_are_of_the_unmodified_row() {
    let params =
        SamplingParams { logprobs: Some(2), presence_penalty: 2.0, ..SamplingParams::greedy() };
    let history = History { tokens: &[9, 0], prompt_len: 1 };
    let row = [1.0, 0.5, 0.5, -3.0];
    let sampled = sample(&row, &params, history, &ReferenceBackend, &mut Scratch::default());
    assert_eq!(sampled.token, 1);
    let logprob = sampled.logprob.unwrap();
    let sum: f32 = [1.0f32, 0.5, 0.5, -3.0].iter().map(|x| x.exp()).sum();
    assert!((logprob.logprob - (0.5 - sum.ln())).abs() < 1e-6);
    let top: Vec<_> = logprob.top.iter().map(|t| t.token).collect();
    assert_eq!(top, [0, 1]);
}

#[test]
fn rows_that_are_not_finite_still_give_a_token() {
    let draw = SamplingParams::default();
    let with_logprobs = SamplingParams { logprobs: Some(20), ..SamplingParams::greedy() };
    for params in [&draw, &with_logprobs, &SamplingParams { top_k: 2, top_p: 0.5, ..draw.clone() }]
    {
        assert_eq!(choose(&[f32::NEG_INFINITY; 3], params, NONE), 0);
        assert_eq!(choose(&[f32::NAN; 3], params, NONE), 0);
        assert_eq!(choose(&[0.0, f32::INFINITY, f32::NAN], params, NONE), 1);
        // NaN is never drawn.
        assert_eq!(choose(&[f32::NAN, 0.5, f32::NEG_INFINITY], params, NONE), 1);
    }
}

#[test]
fn tiny_temperatures_are_greedy() {
    let logits = [3.0, 30.0, -1e30, 29.0];
    for temperature in [1e-6, 1e-30, f32::MIN_POSITIVE / 8.0] {
        for seed in 0..50 {
            let params = SamplingParams { temperature, seed, ..Default::default() };
            assert_eq!(choose(&logits, &params, NONE), 1, "{temperature:e}");
        }
    }
}

/// Weights as a softmax gives them: few large ones, a long tail.
fn long_tail(len: usize) -> Vec<f32> {
    let mut rng = estafette_types::SplitMix64::new(5);
    (0..len).map(|_| (rng.below(1 << 24) as f32 / (1 << 24) as f32).powi(40)).collect()
}

#[test]
fn filters_agree_with_a_full_sort() {
    let mut weights = long_tail(5000);
    weights[17] = 1.0;
    let total: f32 = weights.iter().sum();
    let mut sorted: Vec<(f32, TokenId)> = weights.iter().copied().zip(0..).collect();
    sorted.sort_by(by_weight);
    for top_k in [0, 1, 100, 128, 129, 3000, 9999] {
        for (top_p, min_p) in [(1.0, 0.01), (0.5, 0.0), (0.999, 0.0), (0.999_999, 0.001)] {
            let params = SamplingParams { top_k, top_p, min_p, ..Default::default() };
            let mut expected = sorted.clone();
            expected.truncate(if top_k == 0 { 5000 } else { top_k as usize });
            let whole: f64 = expected.iter().map(|(w, _)| f64::from(*w)).sum();
            let mut sum = 0.0;
            expected.retain(|(w, _)| {
                let inside = top_p == 1.0 || sum < f64::from(top_p) * whole;
                sum += f64::from(*w);
                inside && *w >= min_p
            });
            let mut found = keep(&weights, total, &params);
            found.sort_by(by_weight);
            // The two totals may round differently at the border.
            let (a, b) = (found.len(), expected.len());
            assert!(a.abs_diff(b) <= 1, "{top_k} {top_p} {min_p}: {a} {b}");
            assert_eq!(found[..a.min(b)], expected[..a.min(b)]);
        }
    }
}

#[test]
fn these_are_the_choices_that_the_version_names() {
    let backend = crate::CpuBackend::new(estafette_kernels::Tier::Portable, 1);
    let row = long_tail(5000);
    let tokens: Vec<TokenId> = (0..200).map(|i| i * 37 % 5000).collect();
    let history = History { tokens: &tokens, prompt_len: 150 };
    let plain = SamplingParams { logprobs: Some(3), ..SamplingParams::default() };
    let penalties = SamplingParams {
        repetition_penalty: 1.1,
        presence_penalty: 0.2,
        frequency_penalty: 0.1,
        ..plain.clone()
    };
    let all = [
        SamplingParams { temperature: 0.0, ..plain.clone() },
        SamplingParams { temperature: 0.7, top_p: 0.9, ..plain.clone() },
        SamplingParams { top_k: 40, ..plain.clone() },
        SamplingParams { top_k: 500, top_p: 0.95, ..plain.clone() },
        SamplingParams { min_p: 0.02, ..penalties.clone() },
        penalties,
        plain,
    ];
    let mut hash = estafette_types::BlockHash(0);
    for (params, seed) in all.iter().flat_map(|params| (0..50).map(move |seed| (params, seed))) {
        let params = SamplingParams { seed, ..params.clone() };
        let sampled = sample(&row, &params, history, &backend, &mut Scratch::default());
        let logprob = sampled.logprob.unwrap();
        let bits = logprob.top.iter().flat_map(|top| [top.token, top.logprob.to_bits()]);
        let bits = bits.chain([sampled.token, logprob.logprob.to_bits()]);
        hash = hash.child(&bits.collect::<Vec<_>>());
    }
    let expected = ("sampler-v1", 0x8094a0d3789ce9571a7e821776ae3ff2);
    assert_eq!((VERSION, hash.0), expected, "other choices need another VERSION, and then this");
}
