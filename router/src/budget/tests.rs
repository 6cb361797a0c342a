use super::*;

const WINDOW: Duration = Duration::from_secs(60);

fn withdraw_all(budget: &mut RetryBudget, now: Instant) -> usize {
    (0..10_000).take_while(|_| budget.withdraw(now)).count()
}

#[test]
fn one_in_five_answers_may_be_repaired_for_long_and_a_lost_worker_at_once() {
    let now = Instant::now();
    let mut budget = RetryBudget::new(100, WINDOW, now);
    assert_eq!(withdraw_all(&mut budget, now), 100, "the floor");
    for _ in 0..50 {
        budget.deposit(now);
    }
    assert_eq!(withdraw_all(&mut budget, now), 10, "a fifth of the answers");
    let repaired = (0..1_000).filter(|_| {
        budget.deposit(now);
        budget.withdraw(now)
    });
    assert_eq!(repaired.count(), 200, "when all fail");
}

#[test]
fn what_is_not_used_is_not_saved_without_end() {
    let now = Instant::now();
    let mut budget = RetryBudget::new(100, WINDOW, now);
    (0..100_000).for_each(|_| budget.deposit(now));
    assert_eq!(withdraw_all(&mut budget, now), 200);
}

#[test]
fn time_brings_the_floor_back_and_no_more() {
    let start = Instant::now();
    let mut budget = RetryBudget::new(100, WINDOW, start);
    withdraw_all(&mut budget, start);
    assert_eq!(withdraw_all(&mut budget, start + WINDOW / 4), 25);
    assert_eq!(withdraw_all(&mut budget, start + WINDOW * 10), 100);
    // A clock that goes back brings nothing.
    assert_eq!(withdraw_all(&mut budget, start), 0);
}
