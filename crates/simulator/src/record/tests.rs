use super::*;

fn good() -> Record {
    Record {
        arrived: Some(1_000_000),
        first_token: Some(2_000_000),
        finished: Some(2_400_000),
        fate: Fate::Finished,
        output_tokens: 11,
        input_tokens: 100,
        isolated_micros: 100_000,
        ..Record::default()
    }
}

#[test]
fn both_parts_must_be_kept() {
    let slo = Slo::default();
    assert!(slo.is_met(&good()));
    let slow = Record { finished: Some(2_600_000), ..good() };
    assert_eq!(slow.itl_micros(), Some(60_000));
    assert!(!slo.is_met(&slow), "60 ms between tokens");
    let late = Record {
        arrived: Some(0),
        first_token: Some(2_100_000),
        finished: Some(2_200_000),
        ..good()
    };
    assert!(!slo.is_met(&late), "2.1 s to the first token");
    assert!(slo.is_met(&Record { isolated_micros: 700_000, ..late }), "3 × 0.7 s is 2.1 s");
}

#[test]
fn whoever_did_not_finish_is_a_miss() {
    let slo = Slo::default();
    for fate in [Fate::Unfinished, Fate::Rejected] {
        assert!(!slo.is_met(&Record { fate, ..good() }));
        assert!(!slo.is_met(&Record { fate, ..Record::default() }));
    }
}

#[test]
fn an_answer_of_one_token_has_no_gaps() {
    let one = Record { output_tokens: 1, finished: Some(2_000_000), ..good() };
    assert_eq!(one.itl_micros(), Some(0));
}
