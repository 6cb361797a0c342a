//! Azure's format: arrivals and lengths only, so nothing is shared.

use super::file::{error, tokens};
use super::{Session, Start, Turn, Workload};
use crate::error::SimulateError;

/// Seconds of a day.
const DAY: u64 = 86_400;

pub(super) fn is_header(line: &str) -> bool {
    line.trim_start_matches('\u{feff}')
        .trim()
        .eq_ignore_ascii_case("TIMESTAMP,ContextTokens,GeneratedTokens")
}

pub(super) fn parse(text: &str) -> Result<Workload, SimulateError> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        rows.push(row(i + 1, line.trim())?);
    }
    let first = rows.iter().map(|(at, _)| *at).min().unwrap_or(0);
    let sessions = rows.iter().enumerate().map(|(i, (at, _))| Session {
        start: Start::At { micros: at - first, tick: 1 },
        turns: i as u32..i as u32 + 1,
        namespace: 0,
        parent: None,
    });
    Ok(Workload {
        name: String::new(),
        content_block: 512,
        sessions: sessions.collect(),
        turns: rows.into_iter().map(|(_, turn)| turn).collect(),
        sessions_per_second: 0.0,
    })
}

fn row(number: usize, line: &str) -> Result<(u64, Turn), SimulateError> {
    let columns: Vec<&str> = line.split(',').collect();
    let [stamp, context, generated] = columns[..] else {
        return Err(error(number, format!("{} columns instead of 3", columns.len())));
    };
    let at = timestamp(stamp.trim()).ok_or_else(|| {
        error(number, format!("`{stamp}` is no time like `2023-11-16 18:17:03.9799600`"))
    })?;
    let count = |name: &str, text: &str| {
        let value =
            text.trim().parse().map_err(|_| error(number, format!("`{text}` is no `{name}`")))?;
        tokens(number, name, value)
    };
    let input_tokens = count("ContextTokens", context)?.max(1);
    let output_tokens = count("GeneratedTokens", generated)?.max(1);
    Ok((at, Turn { input_tokens, output_tokens, ..Turn::default() }))
}

/// Microseconds since year 0 of a time without a zone.
fn timestamp(text: &str) -> Option<u64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let ok = year < 10_000 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !ok
        || hour > 23
        || minute > 59
        || second > 60
        || !fraction.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + digits.parse::<u64>().ok()?)
}

/// Days since 0000-03-01 in the Gregorian calendar, plus a constant that keeps January of year 0 positive.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month < 3 { (year + 399, month + 9) } else { (year + 400, month - 3) };
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day
}
