use super::*;

#[test]
fn it_is_still_since_its_last_beat() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let pulse = Pulse::new(start);
    let seen = pulse.clone();
    assert_eq!(seen.still_for(after(30)), Duration::from_millis(30));
    pulse.beat(after(20));
    assert_eq!(seen.still_for(after(30)), Duration::from_millis(10));
    assert_eq!(seen.still_for(after(10)), Duration::ZERO, "a beat that came meanwhile");
}
