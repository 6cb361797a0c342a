//! Threads that share the pieces of short jobs.
//!
//! A model step is some three hundred jobs of a few microseconds. Waking a sleeping thread for each would cost more than
//! the jobs, so inside a step the threads wait for the next one spinning, bounded; between steps they sleep.
//!
//! Nobody owns a piece before taking it, and nobody waits for a thread that has not come: on a busy machine, where a helper
//! may be off its processor for milliseconds, the others do its share. Only pieces in work are waited for.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Spins before a helper sleeps: some tens of microseconds, longer than the gaps inside a step.
const SPINS_MAX: u32 = 2_000;
/// Spins before the caller lets others run: it may be waiting for one of them.
const SPINS_BEFORE_YIELD: u32 = 500;

/// One job: `job(i)` for every piece `i`.
struct Work<'a> {
    job: &'a (dyn Fn(usize) + Sync),
    pieces: usize,
    next: AtomicUsize,
}

impl Work<'_> {
    /// Does pieces until none is left.
    fn share(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                return;
            }
            (self.job)(piece);
        }
    }
}

/// Low half of [`Shared::state`]: helpers at work, and whether more may join. The high half numbers the jobs.
const OPEN: u64 = 1 << 31;
const ACTIVE: u64 = OPEN - 1;
const NUMBER: u64 = !(OPEN | ACTIVE);
const NEXT_NUMBER: u64 = 1 << 32;

struct Shared {
    state: AtomicU64,
    /// Good while `state` is open or somebody is active.
    work: AtomicPtr<Work<'static>>,
    /// Inside a step: the next job comes soon.
    in_step: AtomicBool,
    sleepers: AtomicU32,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panicked: AtomicBool,
}

/// A fixed set of threads; the caller of [`ThreadPool::run`] is the first of them.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads()).finish()
    }
}

/// While it lives the threads expect work and wait for it spinning.
pub struct StepGuard(Arc<Shared>);

impl std::fmt::Debug for StepGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StepGuard")
    }
}

impl Drop for StepGuard {
    fn drop(&mut self) {
        self.0.in_step.store(false, Ordering::Relaxed);
    }
}

impl ThreadPool {
    /// `threads` threads, the caller included.
    ///
    /// # Panics
    /// When the system refuses a thread.
    #[expect(clippy::expect_used, reason = "without its threads the process cannot work at all")]
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            in_step: AtomicBool::new(false),
            sleepers: AtomicU32::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("kernel-{index}"))
                .spawn(move || help(&shared))
                .expect("the system refuses a thread for the kernels")
        };
        let helpers = (1..threads).map(spawn).collect();
        Self { shared, helpers }
    }

    /// How many, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Jobs follow each other closely while the guard lives.
    pub(crate) fn step(&self) -> StepGuard {
        self.shared.in_step.store(true, Ordering::Relaxed);
        StepGuard(Arc::clone(&self.shared))
    }

    /// Runs `job(i)` once for every `i` below `pieces`, on whichever threads come, and returns when all are done.
    ///
    /// # Panics
    /// When the job panics on any thread.
    pub(crate) fn run(&mut self, pieces: usize, job: &(dyn Fn(usize) + Sync)) {
        if self.helpers.is_empty() || pieces <= 1 {
            return (0..pieces).for_each(job);
        }
        let work = Work { job, pieces, next: AtomicUsize::new(0) };
        let shared = &*self.shared;
        shared.work.store(std::ptr::from_ref(&work).cast_mut().cast(), Ordering::Relaxed);
        let number = shared.state.load(Ordering::Relaxed) & NUMBER;
        // Either a helper that is about to sleep sees the new number, or it is seen here as a sleeper.
        shared.state.store(number.wrapping_add(NEXT_NUMBER) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| work.share()));
        // From here on nobody joins; `work` must outlive those who have.
        shared.state.fetch_and(!OPEN, Ordering::Relaxed);
        spin_until(|| shared.state.load(Ordering::Acquire) & ACTIVE == 0);
        if let Err(panic) = own {
            shared.panicked.store(false, Ordering::Relaxed);
            resume_unwind(panic);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a kernel thread panicked");
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for handle in self.helpers.drain(..) {
            // Panics of jobs were caught and reported where they happened.
            drop(handle.join());
        }
    }
}

/// What a helper does all its life.
fn help(shared: &Shared) {
    let mut seen = 0;
    while let Some(state) = next_job(shared, seen) {
        seen = state & NUMBER;
        if !join(shared, state) {
            continue;
        }
        // SAFETY: `run` keeps the work alive while anybody is active, and we are.
        let work = unsafe { &*shared.work.load(Ordering::Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| work.share())).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Becomes active in the job that `state` shows, unless it is closed or over.
fn join(shared: &Shared, mut state: u64) -> bool {
    let number = state & NUMBER;
    while state & NUMBER == number && state & OPEN != 0 {
        let joined = shared.state.compare_exchange_weak(
            state,
            state + 1,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        match joined {
            Ok(_) => return true,
            Err(now) => state = now,
        }
    }
    false
}

/// Waits for a job after number `seen`: spinning for a while inside a step, then asleep. `None`: the pool is gone.
fn next_job(shared: &Shared, seen: u64) -> Option<u64> {
    let mut spins = 0;
    loop {
        let state = shared.state.load(Ordering::Acquire);
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        if state & NUMBER != seen {
            return Some(state);
        }
        if shared.in_step.load(Ordering::Relaxed) && spins < SPINS_MAX {
            spins += 1;
            std::hint::spin_loop();
            continue;
        }
        sleep(shared, seen);
    }
}

/// Sleeps until there is a job after number `seen`, or the pool is gone.
fn sleep(shared: &Shared, seen: u64) {
    let mut guard = shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    while shared.state.load(Ordering::SeqCst) & NUMBER == seen
        && !shared.stop.load(Ordering::SeqCst)
    {
        guard = shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
}

/// Waits without sleeping; lets other threads run now and then, one of them may be the one that is waited for.
fn spin_until(done: impl Fn() -> bool) {
    let mut spins = 0u32;
    while !done() {
        spins += 1;
        if spins.is_multiple_of(SPINS_BEFORE_YIELD) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests;
