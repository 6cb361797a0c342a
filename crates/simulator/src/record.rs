//! What became of each request.

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It had not when the simulation ended, or was never sent.
    #[default]
    Unfinished,
    /// Nobody took it.
    Rejected,
    /// All of its answer came.
    Finished,
}

/// One request. Times in microseconds since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it came to the router; `None`: its session did not get so far.
    pub arrived: Option<u64>,
    /// When its first token came to the client.
    pub first_token: Option<u64>,
    /// When its last token came.
    pub finished: Option<u64>,
    /// How it ended.
    pub fate: Fate,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// Prompt tokens that the worker which computed the prompt found in its cache.
    pub cached_tokens: u64,
    /// What the router expected of that.
    pub expected_cached_tokens: u64,
    /// Arrival to first token if it were alone and nothing cached.
    pub isolated_micros: u64,
    /// It was handed over from one worker to another.
    pub handed_over: bool,
}

impl Record {
    /// Arrival to first token.
    pub fn ttft_micros(&self) -> Option<u64> {
        Some(self.first_token? - self.arrived?)
    }

    /// Mean time between two tokens; 0 for an answer of one.
    pub fn itl_micros(&self) -> Option<u64> {
        let gaps = u64::from(self.output_tokens.saturating_sub(1)).max(1);
        Some((self.finished? - self.first_token?).div_ceil(gaps))
    }
}

/// What a client is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// The first token comes within this time, in microseconds, …
    pub ttft_micros: u64,
    /// … or within so many times what the prompt takes alone.
    pub ttft_isolated: f64,
    /// And the others follow within this time of each other on average.
    pub itl_micros: u64,
}

impl Default for Slo {
    fn default() -> Self {
        Self { ttft_micros: 2_000_000, ttft_isolated: 3.0, itl_micros: 50_000 }
    }
}

impl Slo {
    /// Whether the promise was kept: both parts of it, to the end of the answer.
    pub fn is_met(&self, record: &Record) -> bool {
        let (Some(ttft), Some(itl)) = (record.ttft_micros(), record.itl_micros()) else {
            return false;
        };
        let isolated = (record.isolated_micros as f64 * self.ttft_isolated) as u64;
        record.fate == Fate::Finished
            && ttft <= self.ttft_micros.max(isolated)
            && itl <= self.itl_micros
    }
}

#[cfg(test)]
mod tests;
