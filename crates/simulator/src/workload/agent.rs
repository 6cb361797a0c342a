//! Coding-agent sessions (kv-cache-tester's format), replayed in a closed loop.
//!
//! `think_time` is the pause before a request. An entry with its own `requests` is a sub-agent: its `t` is when it ended,
//! it ran `duration_ms`, and the parent's next request came after the last of them. One without a duration was launched
//! at `t` and not waited for. Ids are local to a session, and
//! cover `floor(in / 64)` blocks.

use super::file::{error, micros, tokens};
use super::{Run, Session, Start, Turn, Workload};
use crate::error::SimulateError;
use serde::Deserialize;

/// Sessions that begin in a second before any scaling: the traces have no start times.
const SESSIONS_PER_SECOND: f64 = 0.1;

#[derive(Deserialize)]
struct Line {
    block_size: u32,
    requests: Vec<Entry>,
}

/// A request, or a sub-agent when it has requests of its own.
#[derive(Deserialize)]
struct Entry {
    t: f64,
    #[serde(rename = "in")]
    input: Option<u64>,
    out: Option<u64>,
    api_time: Option<f64>,
    think_time: Option<f64>,
    h: Option<Vec<(u64, u32)>>,
    duration_ms: Option<f64>,
    requests: Option<Vec<Entry>>,
}

pub(super) fn parse(text: &str) -> Result<Workload, SimulateError> {
    let mut reader =
        Reader { number: 0, content_block: None, turns: Vec::new(), sessions: Vec::new() };
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        reader.number = i + 1;
        let line: Line = serde_json::from_str(line).map_err(|e| error(i + 1, e.to_string()))?;
        reader.line(&line)?;
    }
    Ok(Workload {
        name: String::new(),
        content_block: reader.content_block.unwrap_or(64),
        turns: reader.turns,
        sessions: reader.sessions,
        sessions_per_second: SESSIONS_PER_SECOND,
    })
}

struct Reader {
    /// Of the line.
    number: usize,
    content_block: Option<u32>,
    turns: Vec<Turn>,
    sessions: Vec<Session>,
}

/// A sub-agent that waits for its place: after a turn of the session, or before its first.
struct Child<'a> {
    after: Option<u32>,
    delay: u64,
    /// The parent waits for its end.
    joined: bool,
    requests: &'a [Entry],
}

impl Reader {
    fn line(&mut self, line: &Line) -> Result<(), SimulateError> {
        if line.block_size == 0
            || *self.content_block.get_or_insert(line.block_size) != line.block_size
        {
            return Err(error(self.number, "`block_size` is 0 or not that of the lines before"));
        }
        let namespace = self.number as u64;
        let session = self.sessions.len() as u32;
        let first = self.turns.len() as u32;
        let mut children = Vec::new();
        // The end of the newest answer, and of the newest sub-agent after it, in seconds.
        let (mut answered, mut joined) = (0.0f64, None::<f64>);
        for entry in &line.requests {
            let Some(requests) = &entry.requests else {
                let think = entry.think_time.unwrap_or(0.0);
                let pause = joined.take().map_or(think, |at| (entry.t - at).max(0.0));
                self.turn(entry, pause)?;
                answered = entry.t + entry.api_time.unwrap_or(0.0);
                continue;
            };
            // One that was launched and not waited for has no duration, and `t` is when it began.
            let began = entry.duration_ms.map_or(entry.t, |ms| entry.t - ms / 1e3);
            let delay = micros(self.number, "t", (began - answered).max(0.0), 1e6)?;
            let after = (self.turns.len() as u32).checked_sub(1).filter(|turn| *turn >= first);
            let waited_for = entry.duration_ms.is_some();
            children.push(Child { after, delay, joined: waited_for, requests });
            if waited_for {
                joined = Some(joined.map_or(entry.t, |at| at.max(entry.t)));
            }
        }
        let turns = first..self.turns.len() as u32;
        if turns.is_empty() && children.is_empty() {
            return Ok(());
        }
        self.sessions.push(Session { start: Start::Drawn, turns, namespace, parent: None });
        children.into_iter().try_for_each(|child| self.child(session, namespace, &child))
    }

    fn child(
        &mut self,
        parent: u32,
        namespace: u64,
        child: &Child<'_>,
    ) -> Result<(), SimulateError> {
        let number = self.sessions.len() as u32;
        let first = self.turns.len() as u32;
        for request in child.requests {
            self.turn(request, request.think_time.unwrap_or(0.0))?;
        }
        let turns = first..self.turns.len() as u32;
        if turns.is_empty() {
            return Ok(());
        }
        let (start, parent) = match child.after {
            Some(turn) => {
                self.turns[turn as usize].starts.push((number, child.delay));
                (Start::ByParent, child.joined.then_some(parent))
            }
            // Nothing of the parent came before: it is a session of its own.
            None => (Start::Drawn, None),
        };
        self.sessions.push(Session { start, turns, namespace, parent });
        Ok(())
    }

    fn turn(&mut self, request: &Entry, pause: f64) -> Result<(), SimulateError> {
        let (Some(input), Some(out), Some(runs)) = (request.input, request.out, &request.h) else {
            return Err(error(self.number, "a request lacks `in`, `out` or `h`"));
        };
        let blocks: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
        let input_tokens = tokens(self.number, "in", input)?.max(1);
        if blocks > u64::from(input_tokens) {
            return Err(error(self.number, "`h` has more blocks than `in` has tokens"));
        }
        self.turns.push(Turn {
            input_tokens,
            output_tokens: tokens(self.number, "out", out)?.max(1),
            content: runs.iter().map(|&(first, count)| Run { first, count }).collect(),
            think_micros: micros(self.number, "think_time", pause.max(0.0), 1e6)?,
            starts: Vec::new(),
        });
        Ok(())
    }
}
