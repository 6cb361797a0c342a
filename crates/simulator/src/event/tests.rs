use super::*;
use proptest::prelude::*;

fn order(pushed: &[(u64, Class, u64)]) -> Vec<(u64, u64)> {
    let mut queue = Queue::new();
    for &(at, class, subject) in pushed {
        queue.push(at, class, subject, ());
    }
    std::iter::from_fn(|| queue.pop()).map(|h| (h.at, h.subject)).collect()
}

#[test]
fn time_comes_first_then_what_ends_then_what_begins() {
    let pushed =
        [(5, Class::Arrival, 1), (5, Class::StepEnd, 2), (3, Class::Wake, 3), (5, Class::State, 4)];
    assert_eq!(order(&pushed), [(3, 3), (5, 2), (5, 4), (5, 1)]);
}

#[test]
fn the_past_is_now() {
    let mut queue = Queue::new();
    queue.push(10, Class::Arrival, 1, ());
    queue.pop();
    queue.push(3, Class::Arrival, 2, ());
    assert_eq!(queue.pop().map(|h| h.at), Some(10));
}

proptest! {
    #[test]
    fn creation_order_of_unrelated_events_changes_nothing(
        mut events in prop::collection::vec((0u64..4, 0u64..1000), 0..40),
        seed in any::<u64>(),
    ) {
        // Every event is about somebody else.
        events.sort_by_key(|e| e.1);
        events.dedup_by_key(|e| e.1);
        let pushed: Vec<_> = events.iter().map(|&(at, who)| (at, Class::StepEnd, who)).collect();
        let mut shuffled = pushed.clone();
        let mut rng = estafette_types::SplitMix64::new(seed);
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, rng.below(i as u64 + 1) as usize);
        }
        prop_assert_eq!(order(&pushed), order(&shuffled));
    }
}
