//! Coding-agent sessions (kv-cache-tester's format), replayed in a closed loop.
//!
//! `think_time` is the pause before a request. An entry with its own `requests` is a sub-agent: its `t` is when it ended,
//! it ran `duration_ms`, and the parent's next request came after the last of them. Ids are local to a session, and
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

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Agent(Agent),
    Request(Request),
}

#[derive(Deserialize)]
struct Agent {
    t: f64,
    duration_ms: f64,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    t: f64,
    #[serde(rename = "in")]
    input: u64,
    out: u64,
    #[serde(default)]
    api_time: Option<f64>,
    #[serde(default)]
    think_time: f64,
    h: Vec<(u64, u32)>,
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

/// Sub-agents that wait for their place: after a turn of the session, or before its first.
struct Child<'a> {
    after: Option<u32>,
    delay: u64,
    requests: &'a [Request],
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
            match entry {
                Entry::Agent(agent) => {
                    let began = agent.t - agent.duration_ms / 1e3;
                    let delay = micros(self.number, "t", (began - answered).max(0.0), 1e6)?;
                    let after =
                        (self.turns.len() as u32).checked_sub(1).filter(|turn| *turn >= first);
                    children.push(Child { after, delay, requests: &agent.requests });
                    joined = Some(joined.map_or(agent.t, |at| at.max(agent.t)));
                }
                Entry::Request(request) => {
                    let pause =
                        joined.take().map_or(request.think_time, |at| (request.t - at).max(0.0));
                    self.turn(request, pause)?;
                    answered = request.t + request.api_time.unwrap_or(0.0);
                }
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
            self.turn(request, request.think_time)?;
        }
        let turns = first..self.turns.len() as u32;
        if turns.is_empty() {
            return Ok(());
        }
        let (start, parent) = match child.after {
            Some(turn) => {
                self.turns[turn as usize].starts.push((number, child.delay));
                (Start::ByParent, Some(parent))
            }
            // Nothing of the parent came before: it is a session of its own.
            None => (Start::Drawn, None),
        };
        self.sessions.push(Session { start, turns, namespace, parent });
        Ok(())
    }

    fn turn(&mut self, request: &Request, pause: f64) -> Result<(), SimulateError> {
        let blocks: u64 = request.h.iter().map(|(_, count)| u64::from(*count)).sum();
        let input_tokens = tokens(self.number, "in", request.input)?.max(1);
        if blocks > u64::from(input_tokens) {
            return Err(error(self.number, "`h` has more blocks than `in` has tokens"));
        }
        self.turns.push(Turn {
            input_tokens,
            output_tokens: tokens(self.number, "out", request.out)?.max(1),
            content: request.h.iter().map(|&(first, count)| Run { first, count }).collect(),
            think_micros: micros(self.number, "think_time", pause.max(0.0), 1e6)?,
            starts: Vec::new(),
        });
        Ok(())
    }
}
