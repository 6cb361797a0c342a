//! Threads that work in step.
//!
//! A model step is some three hundred short parallel pieces. Waking a sleeping thread for each would cost more than the
//! pieces, so inside a step the threads wait for the next piece spinning, bounded; between steps they sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Spins before a waiting thread sleeps: some tens of microseconds.
const SPINS_MAX: u32 = 20_000;
/// Spins before a thread that must not sleep lets others run: it may be waiting for one of them.
const SPINS_BEFORE_YIELD: u32 = 2_000;

type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// The job of the current generation, with its lifetime hidden: `run` does not return before all threads are done.
#[derive(Clone, Copy)]
struct JobPointer(*const (dyn Fn(usize) + Sync));

// SAFETY: the job is Sync, and `run` keeps it alive while others use it.
unsafe impl Send for JobPointer {}

struct Shared {
    generation: AtomicU64,
    job: Mutex<Option<JobPointer>>,
    unfinished: AtomicUsize,
    /// Inside a step: the next job comes soon.
    in_step: AtomicBool,
    sleepers: Mutex<u32>,
    wake: Condvar,
    stop: AtomicBool,
    panicked: AtomicBool,
    barrier: Barrier,
}

/// A fixed set of threads; the caller of [`ThreadPool::run`] is the first of them.
pub struct ThreadPool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
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
        self.0.in_step.store(false, Ordering::Release);
    }
}

impl ThreadPool {
    /// `threads` threads, the caller included.
    ///
    /// # Panics
    /// When the system refuses a thread.
    #[expect(clippy::expect_used, reason = "without its threads the process cannot work at all")]
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(0),
            job: Mutex::new(None),
            unfinished: AtomicUsize::new(0),
            in_step: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            barrier: Barrier::new(threads),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("kernel-{index}"))
                .spawn(move || work(&shared, index))
                .expect("the system refuses a thread for the kernels")
        };
        let handles = (1..threads).map(spawn).collect();
        Self { shared, handles }
    }

    /// How many, the caller included.
    pub fn threads(&self) -> usize {
        self.handles.len() + 1
    }

    /// The barrier of the running job: every thread must call it equally often.
    pub fn barrier(&self) -> &Barrier {
        &self.shared.barrier
    }

    /// Jobs follow each other closely while the guard lives.
    pub fn step(&self) -> StepGuard {
        self.shared.in_step.store(true, Ordering::Release);
        StepGuard(Arc::clone(&self.shared))
    }

    /// Runs `job(i)` on thread `i` for every thread and returns when all are done.
    ///
    /// # Panics
    /// When the job panics on any thread.
    pub fn run(&self, job: Job<'_>) {
        if self.handles.is_empty() {
            return job(0);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; all threads are done with the job before this function returns.
        let pointer = JobPointer(unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(job)
        });
        shared.barrier.reset();
        *lock(&shared.job) = Some(pointer);
        shared.unfinished.store(self.handles.len(), Ordering::Relaxed);
        shared.generation.fetch_add(1, Ordering::Release);
        if *lock(&shared.sleepers) > 0 {
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        if own.is_err() {
            shared.barrier.poison();
        }
        spin_until(|| shared.unfinished.load(Ordering::Acquire) == 0);
        *lock(&shared.job) = None;
        let others = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!others, "a kernel thread panicked");
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.generation.fetch_add(1, Ordering::Release);
        drop(lock(&self.shared.sleepers));
        self.shared.wake.notify_all();
        for handle in self.handles.drain(..) {
            // Panics of jobs were caught and reported where they happened.
            drop(handle.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread of the pool does all its life.
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = next_generation(shared, seen);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let job = *lock(&shared.job);
        let Some(JobPointer(job)) = job else { continue };
        // SAFETY: `run` waits for `unfinished`, so the job is alive until we count down.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(index) }));
        if done.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
            shared.barrier.poison();
        }
        shared.unfinished.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for a generation after `seen`: spinning for a while inside a step, then asleep.
fn next_generation(shared: &Shared, seen: u64) -> u64 {
    let mut spins = 0;
    loop {
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != seen {
            return generation;
        }
        if shared.in_step.load(Ordering::Relaxed) && spins < SPINS_MAX {
            spins += 1;
            std::hint::spin_loop();
            continue;
        }
        let mut sleepers = lock(&shared.sleepers);
        *sleepers += 1;
        while shared.generation.load(Ordering::Acquire) == seen {
            sleepers = shared.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }
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

/// A meeting point inside a job.
#[derive(Debug)]
pub struct Barrier {
    threads: u32,
    arrived: AtomicU32,
    round: AtomicU32,
    poisoned: AtomicBool,
}

impl Barrier {
    fn new(threads: usize) -> Self {
        Self {
            threads: threads as u32,
            arrived: AtomicU32::new(0),
            round: AtomicU32::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Returns when every thread of the pool has called it.
    ///
    /// # Panics
    /// When another thread panicked and will never come.
    pub fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.fetch_add(1, Ordering::Release);
            return;
        }
        let poisoned = || self.poisoned.load(Ordering::Relaxed);
        spin_until(|| self.round.load(Ordering::Acquire) != round || poisoned());
        assert!(!poisoned(), "another kernel thread panicked");
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    fn reset(&self) {
        self.poisoned.store(false, Ordering::Relaxed);
        self.arrived.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
