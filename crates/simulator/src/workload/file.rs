//! Which format a trace has, and getting its text.

use super::{Workload, agent, azure, mooncake};
use crate::error::SimulateError;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The formats of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `{"timestamp": ms, "input_length", "output_length", "hash_ids"}` a line; one id for each 512 tokens.
    Mooncake,
    /// `TIMESTAMP,ContextTokens,GeneratedTokens`; no content.
    Azure,
    /// One coding-agent session a line, closed loop.
    Agent,
}

/// The most bytes a trace may unpack to.
const BYTES_MAX: usize = 2 << 30;
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// Reads a trace in any of the formats, as it is or packed by xz. `name` is for reports.
///
/// # Errors
/// When it is none of the formats, with the line.
pub fn read(name: &str, bytes: &[u8]) -> Result<Workload, SimulateError> {
    let unpacked;
    let bytes = if bytes.starts_with(XZ_MAGIC) {
        unpacked = unpack(bytes)?;
        unpacked.as_slice()
    } else {
        bytes
    };
    let text = std::str::from_utf8(bytes).map_err(|e| error(0, format!("it is no text: {e}")))?;
    let mut workload = match detect(text)? {
        Format::Mooncake => mooncake::parse(text),
        Format::Azure => azure::parse(text),
        Format::Agent => agent::parse(text),
    }?;
    if workload.turns.is_empty() {
        return Err(error(0, "it holds no requests"));
    }
    workload.name = name.into();
    Ok(workload)
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, SimulateError> {
    let mut bounded = Bounded(Vec::new());
    // The library adds up sizes that the file names, and stops the program when they overflow.
    let unpacked = catch_unwind(AssertUnwindSafe(|| {
        lzma_rs::xz_decompress(&mut Cursor::new(bytes), &mut bounded)
    }));
    unpacked
        .map_err(|_| error(0, "it does not unpack: its sizes are impossible"))?
        .map_err(|e| error(0, format!("it does not unpack: {e:?}")))?;
    Ok(bounded.0)
}

/// A buffer that does not grow without end.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > BYTES_MAX {
            return Err(std::io::Error::other("it unpacks to more than 2 GiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn detect(text: &str) -> Result<Format, SimulateError> {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    if azure::is_header(first) {
        Ok(Format::Azure)
    } else if first.starts_with('{') && first.contains("\"hash_ids\"") {
        Ok(Format::Mooncake)
    } else if first.starts_with('{') && first.contains("\"requests\"") {
        Ok(Format::Agent)
    } else {
        let known = "JSON lines with `hash_ids` (Mooncake) or `requests` (agent sessions), or CSV with the header \
                     `TIMESTAMP,ContextTokens,GeneratedTokens` (Azure)";
        Err(error(1, format!("its format is not known. Known are {known}")))
    }
}

pub(super) fn error(line: usize, problem: impl Into<String>) -> SimulateError {
    SimulateError::Trace { line, problem: problem.into() }
}

/// The longest prompt and answer that are believed.
const TOKENS_MAX: u64 = 100_000_000;

/// A count of tokens of a trace.
pub(super) fn tokens(line: usize, what: &str, value: u64) -> Result<u32, SimulateError> {
    match u32::try_from(value) {
        Ok(tokens) if value <= TOKENS_MAX => Ok(tokens),
        _ => Err(error(line, format!("`{what}` is {value}, more than {TOKENS_MAX}"))),
    }
}

/// Seconds or milliseconds of a trace in microseconds.
pub(super) fn micros(line: usize, what: &str, value: f64, unit: f64) -> Result<u64, SimulateError> {
    // A hundred years: sums of a few stay far from the end of the type.
    const MAX: f64 = 3.2e15;
    let micros = value * unit;
    if (0.0..=MAX).contains(&micros) {
        Ok(micros as u64)
    } else {
        Err(error(line, format!("`{what}` is {value}: out of range")))
    }
}
