use super::*;

#[test]
fn sizes_need_a_unit() {
    assert_eq!("16GiB".parse(), Ok(ByteSize(16 << 30)));
    assert_eq!("1.5 kB".parse(), Ok(ByteSize(1500)));
    assert_eq!(ByteSize(512 << 20).to_string(), "512MiB");
    for bad in ["16", "GiB", "-1MiB", "1e400GB", "NaNB", ""] {
        assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
    }
}

#[test]
fn durations_need_a_unit() {
    assert_eq!(parse_duration("400ms"), Ok(Duration::from_millis(400)));
    assert_eq!(parse_duration("1.5min"), Ok(Duration::from_secs(90)));
    let message = parse_duration("30").unwrap_err().to_string();
    assert_eq!(message, "`30` is not a duration: write a number and a unit, for example `400ms`");
}
