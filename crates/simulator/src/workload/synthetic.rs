//! Traffic for when no trace is at hand: chats with a shared system prompt that grow turn by turn.

use super::{Run, Session, Start, Turn, Workload};
use crate::streams::{Purpose, stream};
use estafette_types::SplitMix64;

/// What synthetic traffic looks like. Lengths are drawn uniformly from half to one and a half of the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synthetic {
    /// Sessions.
    pub sessions: u32,
    /// Turns of a session, on average.
    pub turns: u32,
    /// Different system prompts; a session has one of them.
    pub system_prompts: u32,
    /// Tokens of a system prompt.
    pub system_tokens: u32,
    /// Tokens that the user adds in a turn, on average.
    pub user_tokens: u32,
    /// Tokens of an answer, on average. They are part of the next prompt.
    pub answer_tokens: u32,
    /// Seconds between an answer and the next turn, on average.
    pub think_seconds: u32,
    /// Sessions that begin in a second.
    pub sessions_per_second: f64,
    /// Draws all of it.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            sessions: 800,
            turns: 5,
            system_prompts: 8,
            system_tokens: 2048,
            user_tokens: 1500,
            answer_tokens: 300,
            think_seconds: 20,
            sessions_per_second: 1.0,
            seed: 1,
        }
    }
}

/// Tokens of a content id.
const CONTENT_BLOCK: u32 = 64;

/// Draws the traffic; the same for the same settings.
pub fn generate(settings: &Synthetic) -> Workload {
    let mut rng = stream(settings.seed, Purpose::Synthetic);
    let mut workload = Workload {
        name: "synthetic".into(),
        content_block: CONTENT_BLOCK,
        turns: Vec::new(),
        sessions: Vec::new(),
        sessions_per_second: settings.sessions_per_second,
    };
    let system_blocks = settings.system_tokens / CONTENT_BLOCK;
    // Ids of system prompts come first, those of sessions behind them.
    let mut next_id = u64::from(settings.system_prompts.max(1)) * u64::from(system_blocks);
    for _ in 0..settings.sessions {
        let system =
            rng.below(u64::from(settings.system_prompts.max(1))) * u64::from(system_blocks);
        let first = workload.turns.len() as u32;
        let mut tokens = system_blocks * CONTENT_BLOCK;
        let own = next_id;
        for turn in 0..around(&mut rng, settings.turns) {
            tokens += around(&mut rng, settings.user_tokens);
            let output_tokens = around(&mut rng, settings.answer_tokens);
            let own_blocks = (tokens / CONTENT_BLOCK).saturating_sub(system_blocks);
            let think = u64::from(around(&mut rng, settings.think_seconds)) * 1_000_000;
            workload.turns.push(Turn {
                input_tokens: tokens,
                output_tokens,
                content: vec![
                    Run { first: system, count: system_blocks },
                    Run { first: own, count: own_blocks },
                ],
                think_micros: if turn == 0 { 0 } else { think },
                starts: Vec::new(),
            });
            tokens += output_tokens;
            next_id = own + u64::from(own_blocks);
        }
        let turns = first..workload.turns.len() as u32;
        workload.sessions.push(Session { start: Start::Drawn, turns, namespace: 0, parent: None });
    }
    workload
}

/// A number from half of `mean` to one and a half of it; at least 1.
fn around(rng: &mut SplitMix64, mean: u32) -> u32 {
    let half = mean / 2;
    (half + rng.below(u64::from(mean) + 1) as u32).max(1)
}
