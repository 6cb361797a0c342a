use super::*;

/// From Python: `datetime.fromtimestamp(seconds, UTC).strftime(…)`.
#[test]
fn as_python_writes_it() {
    let all = "%Y-%m-%d %y %-m/%-d %A %a %B %b %H:%M:%S %I %p 100%%";
    for (seconds, written) in [
        (0, "1970-01-01 70 1/1 Thursday Thu January Jan 00:00:00 12 AM 100%"),
        (951_782_399, "2000-02-28 00 2/28 Monday Mon February Feb 23:59:59 11 PM 100%"),
        (951_782_400, "2000-02-29 00 2/29 Tuesday Tue February Feb 00:00:00 12 AM 100%"),
        (1_795_521_600, "2026-11-24 26 11/24 Tuesday Tue November Nov 12:00:00 12 PM 100%"),
        (4_107_542_400, "2100-03-01 00 3/1 Monday Mon March Mar 00:00:00 12 AM 100%"),
    ] {
        assert_eq!(format(seconds, all).unwrap(), written);
    }
}

#[test]
fn every_day_follows_the_one_before() {
    let mut before = civil(0);
    for day in 1..200_000 {
        let (year, month, date) = civil(day);
        let next_day = (year, month, date) == (before.0, before.1, before.2 + 1) && date <= 31;
        let next_month = date == 1 && before.2 >= 28 && (year, month) == (before.0, before.1 + 1);
        let next_year = (month, date, before.1, before.2, year) == (1, 1, 12, 31, before.0 + 1);
        assert!(next_day || next_month || next_year, "{before:?} then {year}-{month}-{date}");
        before = (year, month, date);
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for bad in ["%Q", "%", "%-", "%é"] {
        assert!(format(0, bad).is_err(), "{bad}");
    }
}
