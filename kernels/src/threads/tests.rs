use super::*;

#[test]
fn every_piece_is_done_exactly_once() {
    for threads in [1, 2, 3, 5] {
        let mut pool = ThreadPool::new(threads);
        let counts: Vec<AtomicUsize> = (0..17).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..3000 {
            let _step = (round % 3 == 0).then(|| pool.step());
            let pieces = round % 17 + 1;
            pool.run(pieces, &|i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            let done = counts.iter().map(|count| count.swap(0, Ordering::Relaxed));
            let expected = (0..17).map(|i| usize::from(i < pieces));
            assert!(done.eq(expected), "{threads} threads, {pieces} pieces");
        }
    }
}

#[test]
fn nobody_waits_for_a_helper_that_does_not_come() {
    let mut pool = ThreadPool::new(2);
    // Either thread can be the one that is held up in piece 0; the other does all the rest.
    let others = AtomicUsize::new(0);
    pool.run(100, &|i| {
        if i == 0 {
            spin_until(|| others.load(Ordering::Relaxed) == 99);
        } else {
            others.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(others.into_inner(), 99);
}

#[test]
fn helpers_sleep_between_steps_and_come_back() {
    let mut pool = ThreadPool::new(2);
    let shared = Arc::clone(&pool.shared);
    for _ in 0..20 {
        spin_until(|| shared.sleepers.load(Ordering::SeqCst) == 1);
        let seen = AtomicUsize::new(0);
        // The first piece waits for the second, so both threads must take part.
        pool.run(2, &|_| {
            seen.fetch_add(1, Ordering::Relaxed);
            spin_until(|| seen.load(Ordering::Relaxed) == 2);
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let mut pool = ThreadPool::new(3);
    for bad in 0..8 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|i| assert!(i != bad, "piece {i} breaks"));
        }));
        assert!(outcome.is_err());
        let done = AtomicUsize::new(0);
        pool.run(8, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 8);
    }
}
