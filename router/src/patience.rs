//! How long to wait for somebody who may be gone.

use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// Parts of a wait. Each must pass by itself.
const SLICES: u32 = 5;

/// What `next` brings; `None` when it brings nothing within `patience`.
///
/// A router that was stopped itself, or whose machine slept, finds its clocks ahead when it wakes, and what others have said
/// meanwhile still unread. That costs it one slice of the wait, and nobody is taken for dead because the router was.
pub(crate) async fn heard<T>(next: impl Future<Output = T>, patience: Duration) -> Option<T> {
    let mut next = pin!(next);
    for _ in 0..SLICES {
        if let Ok(heard) = timeout(patience / SLICES, &mut next).await {
            return Some(heard);
        }
    }
    None
}

#[cfg(test)]
mod tests;
