//! Mooncake's format (FAST'25 release): arrivals in ticks of 3 s, one id for each 512 tokens of a prompt. Ids are chained
//! by prefix, and the last one covers a partial block.

use super::file::{error, micros, tokens};
use super::{Run, Session, Start, Turn, Workload};
use crate::error::SimulateError;
use serde::Deserialize;

/// Tokens of an id.
const CONTENT_BLOCK: u32 = 512;
/// The clock's tick, in microseconds.
const TICK: u64 = 3_000_000;

#[derive(Deserialize)]
struct Line {
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

pub(super) fn parse(text: &str) -> Result<Workload, SimulateError> {
    let mut workload = Workload {
        name: String::new(),
        content_block: CONTENT_BLOCK,
        turns: Vec::new(),
        sessions: Vec::new(),
        sessions_per_second: 0.0,
    };
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = i + 1;
        let line: Line = serde_json::from_str(line).map_err(|e| error(number, e.to_string()))?;
        let at = micros(number, "timestamp", line.timestamp, 1e3)?;
        let turn = workload.turns.len() as u32;
        workload.turns.push(Turn {
            input_tokens: tokens(number, "input_length", line.input_length)?.max(1),
            output_tokens: tokens(number, "output_length", line.output_length)?.max(1),
            content: runs(&line.hash_ids),
            ..Turn::default()
        });
        workload.sessions.push(Session {
            start: Start::At { micros: at, tick: TICK },
            turns: turn..turn + 1,
            namespace: 0,
            parent: None,
        });
    }
    Ok(workload)
}

/// Ids as runs of consecutive ones.
pub(super) fn runs(ids: &[u64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some(run) if id.checked_sub(u64::from(run.count)) == Some(run.first) => run.count += 1,
            _ => runs.push(Run { first: id, count: 1 }),
        }
    }
    runs
}
