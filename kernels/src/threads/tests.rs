use super::*;
use std::sync::atomic::AtomicUsize;

#[test]
fn every_thread_runs_every_job_once() {
    for threads in [1, 2, 3, 5] {
        let pool = ThreadPool::new(threads);
        let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..2000 {
            let _step = (round % 3 == 0).then(|| pool.step());
            pool.run(&|i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 2000));
    }
}

#[test]
fn nobody_passes_the_barrier_early() {
    let pool = ThreadPool::new(3);
    let before = AtomicUsize::new(0);
    for round in 1..500 {
        pool.run(&|_| {
            before.fetch_add(1, Ordering::Relaxed);
            pool.barrier().wait();
            assert_eq!(before.load(Ordering::Relaxed), 3 * round);
            pool.barrier().wait();
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let pool = ThreadPool::new(3);
    for bad in 0..3 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|i| {
                assert!(i != bad, "thread {i} breaks");
                pool.barrier().wait();
            });
        }));
        assert!(outcome.is_err());
        pool.run(&|_| pool.barrier().wait());
    }
}
