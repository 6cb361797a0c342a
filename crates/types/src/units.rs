//! Values that carry their unit: `400ms`, `16GiB`.

use std::{fmt, str::FromStr, time::Duration};
use thiserror::Error;

/// A number of bytes, written `512MiB` or `1.5GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a text with a unit was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a {what}: write a number and a unit, for example {example}")]
pub struct InvalidUnit {
    /// What was given.
    pub text: String,
    /// What was expected.
    pub what: &'static str,
    /// One that would be accepted.
    pub example: &'static str,
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        with_unit(text, &BYTE_UNITS).map(Self).ok_or_else(|| InvalidUnit {
            text: text.into(),
            what: "size",
            example: "`512MiB`",
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = BYTE_UNITS[..4].iter().rev();
        match binary.into_iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

const TIME_UNITS: [(&str, u64); 6] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("s", 1_000_000_000),
];

/// Reads `400ms`, `30s`, `1.5min`.
///
/// # Errors
/// When there is no number, no unit, or the unit is unknown.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidUnit> {
    with_unit(text, &TIME_UNITS).map(Duration::from_nanos).ok_or_else(|| InvalidUnit {
        text: text.into(),
        what: "duration",
        example: "`400ms`",
    })
}

/// `number × unit` as a whole number of the smallest unit; `None` for anything else.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, size) = units.iter().find_map(|(unit, size)| {
        text.strip_suffix(unit).map(|number| (number.trim_end(), *size))
    })?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(size);
    }
    let value = number.parse::<f64>().ok()? * size as f64;
    (value.is_finite() && value >= 0.0 && value < u64::MAX as f64).then_some(value as u64)
}

#[cfg(test)]
mod tests;
