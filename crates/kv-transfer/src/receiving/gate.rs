//! The fence of transports where the receiver itself stores.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Open while the transfer's blocks may be written. Whoever stores into them or reads them for a checksum
/// holds the gate; shutting it therefore waits for the store that is under way and forbids the next.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<bool>);

impl Gate {
    pub(crate) fn open() -> Self {
        Self(Mutex::new(true))
    }

    /// `None` once it is shut.
    pub(crate) fn enter(&self) -> Option<MutexGuard<'_, bool>> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.then_some(guard)
    }

    pub(crate) fn shut(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}
