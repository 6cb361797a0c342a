use super::*;

fn record(ttft: u64, fate: Fate) -> Record {
    let finished = (fate == Fate::Finished).then_some(ttft);
    Record {
        arrived: Some(0),
        first_token: finished,
        finished,
        fate,
        input_tokens: 100,
        output_tokens: 1,
        cached_tokens: 40,
        expected_cached_tokens: 50,
        ..Record::default()
    }
}

fn outcome(records: Vec<Record>) -> Outcome {
    let end_micros = 2_000_000;
    Outcome {
        records,
        end_micros,
        handed_off_bytes: 7,
        busy_micros: [0, 0],
        steps: 4,
        extrapolated_steps: 1,
        done: estafette_types::Usage::default(),
        log_hash: 0xab,
        events: 0,
        leftover: None,
    }
}

#[test]
fn rejected_and_unfinished_requests_lower_the_attainment() {
    let good = record(1000, Fate::Finished);
    let of = |records| Figures::new(&outcome(records), &Slo::default(), &BestHits::default(), 2);
    let all = of(vec![good; 4]);
    assert_eq!((all.slo, all.goodput_per_worker), (1.0, 1.0), "4 in 2 s on 2 workers");
    let some = of(vec![good, good, record(0, Fate::Rejected), record(0, Fate::Unfinished)]);
    assert_eq!((some.slo, some.rejected, some.unfinished, some.finished), (0.5, 1, 1, 2));
    assert_eq!((some.hit_ratio, some.extrapolated), (0.4, 0.25));
    assert!((some.hit_overestimate - 0.1).abs() < 1e-12);
    assert_eq!(some.log_hash, "00000000000000ab");
}

#[test]
fn percentiles_are_values_that_occurred() {
    let sorted: Vec<u64> = (1..=100).map(|i| i * 1000).collect();
    assert_eq!(percentiles(&sorted), Percentiles { p50: 50.0, p90: 90.0, p99: 99.0 });
    assert_eq!(percentiles(&[7000]), Percentiles { p50: 7.0, p90: 7.0, p99: 7.0 });
    assert_eq!(percentiles(&[]), Percentiles::default());
}

#[test]
fn a_spread_has_its_ends() {
    assert_eq!(Spread::of([1.0, 4.0, 1.0].into_iter()), Spread { min: 1.0, mean: 2.0, max: 4.0 });
    assert_eq!(Spread::of(std::iter::empty()), Spread { min: 0.0, mean: 0.0, max: 0.0 });
}
