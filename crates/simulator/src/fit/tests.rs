use super::*;
use crate::presets::{DEFAULT_PRESET, preset};
use estafette_types::SplitMix64;

const CHUNKS: &[u32] = &[1, 4, 16, 64, 128, 256, 512];
const CACHED: &[u32] = &[0, 256, 1024, 4096];
const SEQUENCES: &[u32] = &[1, 2, 4, 8, 16, 32, 64];
const CONTEXTS: &[u32] = &[64, 256, 1024];

fn about() -> Measured {
    Measured { name: "test".into(), kv_bytes_per_token: 100, kv_tokens: 1000 }
}

/// A machine that decodes concavely and pays for small chunks.
fn machine() -> StepTimes {
    StepTimes {
        prefill_ms: PrefillTime {
            base: 3.0,
            per_token: 0.7,
            per_token_pair: 2e-4,
            table: Vec::new(),
        },
        decode_ms: DecodeTime {
            base: 3.0,
            per_sequence: 1.1,
            per_context_token: 1e-3,
            table: Vec::new(),
            table_context: 0,
        },
        mixed_ms: Some(MixedTime { base: 0.5, per_sequence: 0.9 }),
        ..preset(DEFAULT_PRESET).unwrap()
    }
}

/// All steps of the grid, each off by up to `noise` of its time.
fn steps(times: &StepTimes, noise: f64, seed: u64) -> Vec<MeasuredStep> {
    let mut works = Vec::new();
    for &n in CHUNKS {
        works.extend(CACHED.iter().map(|&p| (vec![(n, p)], 0, 0)));
    }
    for &b in SEQUENCES {
        for &c in CONTEXTS {
            let context = u64::from(b) * u64::from(c);
            works.push((Vec::new(), b, context));
            works.extend([16, 128].map(|n| (vec![(n, 0)], b, context)));
        }
    }
    let mut rng = SplitMix64::new(seed);
    let mut step = |(chunks, sequences, context_tokens)| {
        let work = StepWork { chunks, sequences, context_tokens };
        let off = (rng.below(2001) as f64 / 1000.0 - 1.0) * noise;
        MeasuredStep { ms: times.ms(&work) * (1.0 + off), work }
    };
    works.into_iter().map(&mut step).collect()
}

fn close(found: f64, real: f64, share: f64) {
    assert!((found / real - 1.0).abs() < share, "{found} instead of {real}");
}

#[test]
fn known_terms_are_found_again() {
    let real = machine();
    for (noise, share) in [(0.0, 1e-4), (0.03, 0.06)] {
        for seed in 0..20 {
            let Fit { times, .. } = fit(&about(), &steps(&real, noise, seed)).unwrap();
            let (p, d) = (&times.prefill_ms, &times.decode_ms);
            assert!(p.table.is_empty() && d.table.is_empty(), "a line is enough");
            close(p.base, 3.0, share);
            close(p.per_token, 0.7, share);
            close(p.per_token_pair, 2e-4, share);
            close(d.base, 3.0, share);
            close(d.per_sequence, 1.1, share);
            close(d.per_context_token, 1e-3, 2.0 * share);
            close(times.mixed_ms.unwrap().per_sequence, 0.9, 2.0 * share);
            assert_eq!(times.valid.chunk_tokens, 512);
            assert_eq!((times.valid.sequences, times.valid.context_tokens), (64, 1024));
        }
    }
}

#[test]
fn what_no_line_describes_gets_a_table() {
    let mut real = machine();
    real.prefill_ms.table = vec![(1, 3.0), (16, 20.0), (64, 60.0), (512, 300.0)];
    real.decode_ms.table = vec![(1, 3.0), (4, 9.0), (16, 20.0), (64, 40.0)];
    real.decode_ms.table_context = 1;
    let Fit { times, prompts, decodes, .. } = fit(&about(), &steps(&real, 0.02, 1)).unwrap();
    assert!(!times.prefill_ms.table.is_empty() && !times.decode_ms.table.is_empty());
    let work = StepWork { chunks: vec![(16, 1024)], ..StepWork::default() };
    close(times.ms(&work), real.ms(&work), 0.04);
    let work = StepWork { sequences: 16, context_tokens: 16 * 256, ..StepWork::default() };
    close(times.ms(&work), real.ms(&work), 0.04);
    assert!(prompts.steps > 0 && decodes.steps > 0);
    assert!(prompts.median < 0.1 && decodes.median < 0.1, "{prompts:?} {decodes:?}");
}

#[test]
fn errors_are_those_of_steps_that_were_left_out() {
    let real = machine();
    let mut steps = steps(&real, 0.0, 1);
    let clean = fit(&about(), &steps).unwrap();
    assert!(clean.prompts.worst < 0.01 && clean.decodes.worst < 0.01 && clean.mixed.worst < 0.01);
    let left_out = |s: &&mut MeasuredStep| s.work.chunks == [(4, 0)] && s.work.sequences == 0;
    steps.iter_mut().find(left_out).unwrap().ms *= 2.0;
    let spoilt = fit(&about(), &steps).unwrap();
    assert_eq!(spoilt.times, clean.times, "it does not move the fit");
    close(spoilt.prompts.worst, 0.5, 0.01);
}

#[test]
fn no_term_is_negative() {
    let mut real = machine();
    (real.prefill_ms.base, real.decode_ms.per_context_token) = (0.0, 0.0);
    for seed in 0..20 {
        let Fit { times, .. } = fit(&about(), &steps(&real, 0.05, seed)).unwrap();
        assert_eq!(times.check(), Ok(()));
    }
}

#[test]
fn too_little_is_refused() {
    let all = steps(&machine(), 0.0, 1);
    assert!(fit(&about(), &all[..3]).is_err());
    let mut never = all;
    never[5].ms = 0.0;
    assert!(fit(&about(), &never).is_err());
}
