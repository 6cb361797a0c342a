//! The event log: one line for each event, and the hash of all of them.

use std::fmt::Write as _;
use std::io::Write;
use xxhash_rust::xxh3::Xxh3Default;

/// Takes the lines.
pub(crate) struct Log<'a> {
    hasher: Xxh3Default,
    line: String,
    sink: Option<&'a mut dyn Write>,
    pub(crate) lines: u64,
}

impl std::fmt::Debug for Log<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl<'a> Log<'a> {
    /// A log that is hashed, and written to `sink` when there is one. A sink that fails is written to no more.
    pub(crate) fn new(sink: Option<&'a mut dyn Write>) -> Self {
        Self { hasher: Xxh3Default::new(), line: String::new(), sink, lines: 0 }
    }

    /// One event: time, what, about whom, and a figure that tells it from others.
    pub(crate) fn event(&mut self, at: u64, what: &str, subject: u64, figure: u64) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = writeln!(self.line, "{at} {what} {subject} {figure}");
        self.hasher.update(self.line.as_bytes());
        self.lines += 1;
        if let Some(sink) = &mut self.sink
            && sink.write_all(self.line.as_bytes()).is_err()
        {
            self.sink = None;
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.digest()
    }
}
