//! Stop strings, across the boundaries of tokens.
//!
//! An answer ends with the stop string that is complete first; it is shown up to where that one starts. Text that could
//! be the start of a stop string is held back until it is known not to be.

/// What can be shown, and whether the answer has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOutcome {
    /// Text before any stop string.
    pub text: String,
    /// A stop string is complete.
    pub stopped: bool,
}

/// Watches an answer for its stop strings.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// Empty stop strings stop nothing.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { stops, held: String::new() }
    }

    /// More text of the answer. After a stop nothing more may be pushed.
    pub fn push(&mut self, text: &str) -> StopOutcome {
        if self.stops.is_empty() {
            return StopOutcome { text: text.to_owned(), stopped: false };
        }
        self.held.push_str(text);
        if let Some(start) = self.first_complete() {
            self.held.truncate(start);
            return StopOutcome { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.undecided();
        let rest = self.held.split_off(self.held.len() - keep);
        StopOutcome { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// What is still held; no text follows.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Start of the stop string that ends first; of several that end together, of the longest.
    fn first_complete(&self) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        found.min().map(|(_, start)| start)
    }

    /// Bytes at the end of what is held that a stop string may begin with.
    fn undecided(&self) -> usize {
        let ends = |stop: &String| {
            let is_start =
                |i: &usize| stop.is_char_boundary(*i) && self.held.ends_with(&stop[..*i]);
            (1..stop.len()).rev().find(is_start).unwrap_or(0)
        };
        self.stops.iter().map(ends).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
