use super::*;
use crate::bench::BenchOptions;
use crate::load::{LoadOptions, load_file};
use crate::testing::{cpu, tiny_model};
use estafette_kernels::Tier;
use std::collections::BTreeSet;
use std::path::Path;

/// The tiny model has a context of 256 tokens; blocks of 4 KiB.
fn bench() -> Bench {
    let (backend, kv_bytes) = (cpu(Tier::detect(), 1), 128 << 12);
    let options = LoadOptions { backend, kv_bytes, max_rows: 64, max_seqs: 4 };
    let loaded = load_file(Path::new("test"), &tiny_model(), options).unwrap();
    Bench::over(loaded, BenchOptions { backend, kv_bytes, max_rows: 64, max_seqs: 4 })
}

fn grid() -> StepGrid {
    StepGrid {
        chunks: vec![1, 16, 64],
        cached: vec![0, 64, 4096],
        sequences: vec![1, 2, 4],
        contexts: vec![32, 96],
        context_tokens: 192,
        beside: vec![8],
    }
}

#[test]
fn every_step_of_the_grid_is_run_and_says_what_it_did() {
    let mut bench = bench();
    let samples = bench.steps(&grid()).unwrap();
    let prompts: Vec<_> = samples.iter().filter(|s| s.shape.sequences == 0).collect();
    let chunks: Vec<_> = prompts.iter().map(|sample| sample.shape.chunks.clone()).collect();
    let expected = [(1, 0), (16, 0), (64, 0), (1, 64), (16, 64), (64, 64)];
    assert_eq!(chunks, expected.map(|chunk| vec![chunk]), "what does not fit is left out");
    let decodes: Vec<_> = samples.iter().filter(|s| s.shape.chunks.is_empty()).collect();
    let sizes: Vec<_> = decodes.iter().map(|sample| sample.shape.sequences).collect();
    assert_eq!(sizes, [4, 2, 1, 2, 1], "192 tokens are 4 sequences of 32, or 2 of 96");
    for sample in &decodes {
        let mean = sample.shape.context_tokens / u64::from(sample.shape.sequences);
        assert!((33..=64).contains(&mean) || (97..=128).contains(&mean), "{sample:?}");
    }
    let beside = samples.iter().filter(|s| s.shape.sequences > 0 && !s.shape.chunks.is_empty());
    let beside: BTreeSet<_> = beside.map(|s| (s.shape.sequences, s.shape.chunks.clone())).collect();
    let full = "4 sequences leave no place for another";
    assert_eq!(beside, [1, 2].map(|size| (size, vec![(8, 0)])).into(), "{full}");
    assert!(bench.engine.scheduler.is_idle());
}

#[test]
fn a_second_round_runs_the_same_steps() {
    let mut bench = bench();
    let shapes =
        |samples: Vec<StepSample>| samples.into_iter().map(|s| s.shape).collect::<Vec<_>>();
    let first = shapes(bench.steps(&grid()).unwrap());
    let second = shapes(bench.steps(&grid()).unwrap());
    let decodes = |shapes: &[StepShape]| {
        shapes.iter().map(|s| (s.sequences, s.chunks.clone())).collect::<Vec<_>>()
    };
    assert_eq!(decodes(&first), decodes(&second));
}

#[test]
fn a_grid_ends_with_the_largest_step() {
    let grid = StepGrid::new(512, 64);
    assert_eq!((grid.chunks.last(), grid.sequences.last()), (Some(&512), Some(&64)));
    let small = StepGrid::new(64, 2);
    assert_eq!((small.chunks.last(), &small.sequences[..]), (Some(&64), &[1, 2][..]));
}

#[test]
fn a_neighbour_leaves_nothing_behind() {
    let mut bench = bench();
    for kind in [Neighbour::Prompts, Neighbour::Decodes, Neighbour::Prompts] {
        bench.work(kind).unwrap();
        assert!(bench.engine.scheduler.is_idle());
    }
}
