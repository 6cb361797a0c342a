//! What clients ask for: sessions of turns.
//!
//! An open-loop trace has one session of one turn for each request. In a closed loop a turn comes `think` after the
//! answer before it; sub-agents that a turn's answer started run beside each other, and the next turn waits for them.
//!
//! A prompt's content is a list of *content ids*, one for each `content_block` tokens, as the traces give them: equal ids
//! at the same place mean equal tokens. What no id covers belongs to that turn alone.

mod agent;
mod arrivals;
mod azure;
mod file;
mod mooncake;
mod synthetic;

pub use file::{Format, read};
pub use synthetic::{Synthetic, generate};

pub(crate) use arrivals::session_starts;

use std::ops::Range;

/// Consecutive content ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first id.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Tokens of the prompt; at least 1.
    pub input_tokens: u32,
    /// Tokens of the answer; at least 1. The router never sees it.
    pub output_tokens: u32,
    /// What the prompt consists of.
    pub content: Vec<Run>,
    /// Microseconds from the end of the answer before it, or of the last sub-agent.
    pub think_micros: u64,
    /// Sub-agents that begin with the end of this answer: the session, and microseconds from the end.
    pub starts: Vec<(u32, u64)>,
}

/// When a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Microseconds since the beginning, in a window of that many in which it may be moved: traces have coarse clocks.
    At {
        /// Since the beginning.
        micros: u64,
        /// The clock's tick.
        tick: u64,
    },
    /// At a random time.
    Drawn,
    /// When a turn of another session says so.
    ByParent,
}

/// Turns of one client, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When the first one comes.
    pub start: Start,
    /// Which of [`Workload::turns`].
    pub turns: Range<u32>,
    /// Ids of sessions with different namespaces are different content.
    pub namespace: u64,
    /// The session whose next turn waits for its end.
    pub parent: Option<u32>,
}

/// Everything that will be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// For reports.
    pub name: String,
    /// Tokens that one content id stands for.
    pub content_block: u32,
    /// All turns; a session's are next to each other.
    pub turns: Vec<Turn>,
    /// All sessions.
    pub sessions: Vec<Session>,
    /// Sessions that begin in a second when starts are drawn and nothing is scaled.
    pub sessions_per_second: f64,
}

impl Workload {
    /// Keeps the sessions that hold the first `limit` turns, in the order of the file.
    #[must_use]
    pub fn limited(mut self, limit: usize) -> Self {
        let mut turns = 0;
        let kept = self.sessions.iter().take_while(|session| {
            let more = turns < limit;
            turns += session.turns.len();
            more
        });
        let mut kept = kept.count();
        // Sub-agents come after their parents: a parent is kept with all of them.
        while self.sessions.get(kept).is_some_and(|session| session.parent.is_some()) {
            kept += 1;
        }
        self.sessions.truncate(kept);
        let end = self.sessions.iter().map(|session| session.turns.end).max().unwrap_or(0);
        self.turns.truncate(end as usize);
        self
    }

    /// Keeps what begins in the first `micros` of an open-loop trace.
    #[must_use]
    pub fn within(mut self, micros: u64) -> Self {
        let early = |start: Start| !matches!(start, Start::At { micros: at, .. } if at >= micros);
        self.sessions.retain(|session| early(session.start));
        self
    }

    /// Turns of all sessions.
    pub fn requests(&self) -> u64 {
        self.sessions.iter().map(|session| session.turns.len() as u64).sum()
    }

    /// Whether sessions begin at random times, and the load is their rate.
    pub fn is_closed_loop(&self) -> bool {
        self.sessions.iter().any(|session| session.start == Start::Drawn)
    }
}

#[cfg(test)]
mod tests;
