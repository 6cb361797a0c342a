//! The progress bar.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar on standard error, when that is a terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix:>14} [{bar:40}] {percent:>3}% {elapsed} {eta} left",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// `what` is under way: `done` of `all`.
    pub(super) fn show(&self, what: &str, done: u64, all: u64) {
        if self.0.prefix() != what {
            self.0.set_prefix(what.to_owned());
        }
        self.0.set_length(all);
        self.0.set_position(done);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
