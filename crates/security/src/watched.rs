//! Values that are made from files, and made anew when the files change.

use crate::FileError;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The files are looked at when the value is wanted, at most this often.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Files and what is made of them.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// What is made of them.
    type Value;
    /// The word for it in logs.
    const WHAT: &'static str;

    /// All of them.
    fn files(&self) -> Vec<&Path>;

    /// Reads them. They are small: this blocks for microseconds.
    ///
    /// # Errors
    /// When one cannot be used.
    fn read(&self) -> Result<Self::Value, FileError>;
}

/// The value of `S`, as fresh as its files.
pub(crate) struct Watched<S: Source> {
    source: S,
    state: Mutex<State<S::Value>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    checked: Instant,
    /// Why the files as they are now cannot be used.
    failed: Option<String>,
}

/// Changes whenever a file does: also when another one takes its name, as with mounted secrets.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl<S: Source> fmt::Debug for Watched<S> {
    // Never the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<S: Source> Watched<S> {
    /// # Errors
    /// When the files cannot be used.
    pub(crate) fn new(source: S, now: Instant) -> Result<Self, FileError> {
        // Stamps first: a change while the files are read is noticed at the next look.
        let stamps = stamps(&source);
        let value = Arc::new(source.read()?);
        let state = State { value, stamps, checked: now, failed: None };
        Ok(Self { source, state: Mutex::new(state) })
    }

    /// The value as of now.
    pub(crate) fn get(&self, now: Instant) -> Arc<S::Value> {
        let mut state = self.lock();
        if now.saturating_duration_since(state.checked) >= CHECK_EVERY {
            state.checked = now;
            self.refresh(&mut state);
        }
        Arc::clone(&state.value)
    }

    fn refresh(&self, state: &mut State<S::Value>) {
        let stamps = stamps(&self.source);
        // Files that failed are tried at every look: they may have been caught half written.
        if state.failed.is_none() && stamps == state.stamps {
            return;
        }
        match self.source.read() {
            Ok(value) => {
                tracing::info!("{} changed and were read again", S::WHAT);
                (state.value, state.stamps, state.failed) = (Arc::new(value), stamps, None);
            }
            Err(error) => {
                let error = error.to_string();
                if state.failed.as_ref() != Some(&error) {
                    tracing::error!(%error, "{} changed and cannot be used, the old ones stay in force", S::WHAT);
                }
                state.failed = Some(error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S::Value>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(source: &impl Source) -> Vec<Option<Stamp>> {
    source.files().into_iter().map(stamp).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), len: metadata.len(), inode: metadata.ino() })
}

#[cfg(test)]
mod tests;
