use super::*;

fn chunk(n: u32) -> StepShape {
    StepShape { chunks: vec![(n, 0)], ..StepShape::default() }
}

#[test]
fn a_step_is_as_long_as_its_middle_round() {
    let samples = Samples::from([(chunk(16), vec![9.0, 1.0, 2.0])]);
    let work = StepWork { chunks: vec![(16, 0)], ..StepWork::default() };
    assert_eq!(steps(&samples), [MeasuredStep { work, ms: 2.0 }]);
}
