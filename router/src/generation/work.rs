//! Work that runs in the task that waits for it, and on its own once nobody waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

type Pinned = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the work is until it has ended or is taken away.
#[derive(Default)]
struct Place {
    work: Option<Pinned>,
    /// Of the owner, who must hear when the work is taken away.
    owner: Option<Waker>,
}

type Shared = Arc<Mutex<Place>>;

/// Set by work that must go on whether or not its owner polls it.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaves(Arc<AtomicBool>);

impl Leaves {
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Work whose owner polls it. It goes on in a task of its own when the owner is dropped, and from its deadline on, since an
/// owner that has its reasons to wait would not let it notice; and from when it asks for it, because others depend on its
/// progress. Must be made inside a tokio runtime.
pub(super) struct Work {
    place: Shared,
    /// The work asks for a task of its own.
    leaves: Leaves,
    /// Takes the work at its deadline.
    minder: AbortHandle,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

/// What came of polling.
pub(super) enum Worked {
    /// As the work says.
    Here(Poll<()>),
    /// It has ended, or runs in another task.
    Elsewhere,
}

impl Work {
    pub(super) fn new(
        work: impl Future<Output = ()> + Send + 'static,
        deadline: Instant,
        leaves: Leaves,
    ) -> Self {
        let place = Place { work: Some(Box::pin(work)), owner: None };
        let place = Arc::new(Mutex::new(place));
        let minder = tokio::spawn(mind(Arc::clone(&place), deadline)).abort_handle();
        Self { place, leaves, minder }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Worked {
        let mut place = lock(&self.place);
        let Some(work) = place.work.as_mut() else { return Worked::Elsewhere };
        // A panic ends the work alone: its channel closes, and the owner answers for that.
        let polled =
            catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))).unwrap_or(Poll::Ready(()));
        if polled.is_ready() {
            *place = Place::default();
            self.minder.abort();
        } else if self.leaves.asked() {
            self.minder.abort();
            if let Some(work) = place.work.take() {
                tokio::spawn(work);
            }
            return Worked::Elsewhere;
        } else if place.owner.as_ref().is_none_or(|owner| !owner.will_wake(cx.waker())) {
            place.owner = Some(cx.waker().clone());
        }
        Worked::Here(polled)
    }

    /// Its owner polls it still.
    #[cfg(test)]
    pub(super) fn is_here(&self) -> bool {
        lock(&self.place).work.is_some()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(work) = lock(&self.place).work.take() else { return };
        self.minder.abort();
        // Without a runtime the process is ending.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

fn lock(place: &Shared) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn mind(place: Shared, deadline: Instant) {
    sleep_until(deadline.into()).await;
    let Place { work: Some(work), owner } = std::mem::take(&mut *lock(&place)) else { return };
    if let Some(owner) = owner {
        owner.wake();
    }
    work.await;
}

#[cfg(test)]
mod tests;
