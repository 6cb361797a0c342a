//! Who asks next: each client after its answer and its pause.

use crate::workload::{Start, Workload, session_starts};

/// Where a session is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Sub-agents that run.
    children: u32,
    /// The turn that comes when the last of them has ended.
    next: Option<u32>,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    workload: &'a Workload,
    sessions: Vec<Progress>,
    /// By turn.
    session_of: Vec<u32>,
    /// Requests that have ended.
    pub(super) ended: u64,
}

impl<'a> Clients<'a> {
    pub(super) fn new(workload: &'a Workload) -> Self {
        let mut session_of = vec![0; workload.turns.len()];
        for (number, session) in workload.sessions.iter().enumerate() {
            for turn in session.turns.clone() {
                session_of[turn as usize] = number as u32;
            }
        }
        let sessions = vec![Progress::default(); workload.sessions.len()];
        Self { workload, sessions, session_of, ended: 0 }
    }

    pub(super) fn session_of(&self, turn: u32) -> u32 {
        self.session_of[turn as usize]
    }

    /// The first turns that nobody else starts: when, and which.
    pub(super) fn first_turns(&self, speedup: f64, seed: u64) -> Vec<(u64, u32)> {
        let starts = session_starts(self.workload, speedup, seed);
        let sessions = self.workload.sessions.iter().zip(starts);
        let drawn = sessions.filter(|(s, _)| s.start != Start::ByParent && !s.turns.is_empty());
        drawn.filter_map(|(session, start)| Some((start?, session.turns.start))).collect()
    }

    /// The answer of `turn` has come, or never will. What comes next: when, and which turn.
    pub(super) fn ended(&mut self, now: u64, turn: u32) -> Vec<(u64, u32)> {
        self.ended += 1;
        let number = self.session_of[turn as usize] as usize;
        let session = &self.workload.sessions[number];
        let next = Some(turn + 1).filter(|next| session.turns.contains(next));
        let mut coming = Vec::new();
        for &(child, delay) in &self.workload.turns[turn as usize].starts {
            // A sub-agent that was cut off with the end of the trace never begins.
            let Some(started) = self.workload.sessions.get(child as usize) else { continue };
            coming.push((now + delay, started.turns.start));
            self.sessions[number].children += u32::from(started.parent.is_some());
        }
        self.sessions[number].next = next;
        coming.extend(self.go_on(now, number));
        if next.is_none()
            && let Some(parent) = session.parent
        {
            let parent = parent as usize;
            self.sessions[parent].children = self.sessions[parent].children.saturating_sub(1);
            coming.extend(self.go_on(now, parent));
        }
        coming
    }

    /// The next turn of a session that waits for nothing but its pause.
    fn go_on(&mut self, now: u64, session: usize) -> Option<(u64, u32)> {
        let progress = &mut self.sessions[session];
        if progress.children > 0 {
            return None;
        }
        let next = progress.next.take()?;
        Some((now + self.workload.turns[next as usize].think_micros, next))
    }
}
