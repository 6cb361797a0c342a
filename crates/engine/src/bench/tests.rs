//! The tiny model has a context of 256 tokens.

use super::*;
use crate::load::load_file;
use crate::testing::{cpu, tiny_model};
use estafette_kernels::Tier;

/// A pool of so many blocks of 4 KiB.
fn bench(blocks: u64) -> Bench {
    let (backend, kv_bytes) = (cpu(Tier::detect(), 1), blocks << 12);
    let options = LoadOptions { backend, kv_bytes, max_rows: 64, max_seqs: 4 };
    let loaded = load_file(Path::new("test"), &tiny_model(), options).unwrap();
    assert_eq!(u64::from(loaded.num_blocks), blocks);
    Bench::over(loaded, BenchOptions { backend, kv_bytes, max_rows: 64, max_seqs: 4 })
}

#[test]
fn what_fits_is_measured_and_leaves_nothing_behind() {
    let mut bench = bench(64);
    for _ in 0..2 {
        assert!(bench.prefill(100).unwrap() > 0.0);
        assert!(bench.decode(4, 100, 20).unwrap() > 0.0);
        assert!(bench.engine.scheduler.is_idle());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let no_room = |what, needed, there| BenchError::NoRoom { what, needed, there };
    let mut large = bench(64);
    assert_eq!(large.decode(5, 10, 10).unwrap_err(), no_room("sequences at once", 5, 4));
    assert_eq!(large.decode(1, 200, 60).unwrap_err(), no_room("tokens of context", 261, 256));
    assert_eq!(bench(8).decode(4, 30, 30).unwrap_err(), no_room("blocks of KV memory", 13, 8));
    let refused = AddError::TooLong { given: 256, max_model_len: 256 };
    assert_eq!(large.prefill(256).unwrap_err(), BenchError::Refused(refused));
    assert_eq!(large.decode(1, 0, 1).unwrap_err(), BenchError::Refused(AddError::EmptyPrompt));
    assert!(large.engine.scheduler.is_idle());
}

/// The first one has reached the end of its context by the time the last one has its prompt.
#[test]
fn sequences_that_end_too_early_are_an_error() {
    let mut bench = bench(64);
    bench.config.max_model_len = 512;
    assert_eq!(bench.decode(2, 240, 30).unwrap_err(), BenchError::Ended);
    assert!(bench.engine.scheduler.is_idle());
}

#[test]
fn only_tokens_that_were_produced_are_counted() {
    let mut bench = bench(64);
    bench.submit(vec![1, 2, 3], 3).unwrap();
    let mut produced = 0;
    let error = loop {
        match bench.step() {
            Ok(tokens) => produced += tokens,
            Err(error) => break error,
        }
    };
    assert_eq!((produced, error), (2, BenchError::Ended));
    assert_eq!(bench.step().unwrap_err(), BenchError::Idle);
}
