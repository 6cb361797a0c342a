use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

fn at(seconds: u64, uncached_tokens: u32) -> Waiter {
    Waiter { arrived_micros: seconds * SECOND, priority: 0, uncached_tokens }
}

/// Names in the order in which they are sent.
fn order(order: QueueOrder, waiters: &[(&'static str, Waiter)]) -> Vec<&'static str> {
    let mut room = WaitingRoom::new(order, 100);
    let mut places: Vec<_> =
        waiters.iter().map(|(name, waiter)| room.enter(*waiter, *name).unwrap()).collect();
    let mut sent = Vec::new();
    while let Some(name) = room.first().copied() {
        sent.push(name);
        let first = places.iter().position(|place| room.is_first(place)).unwrap();
        room.leave(places.swap_remove(first));
    }
    sent
}

#[test]
fn first_come_is_first_served_whatever_the_work() {
    let waiters = [("long", at(1, 100_000)), ("short", at(2, 1)), ("equal", at(2, 1))];
    assert_eq!(order(QueueOrder::Fcfs, &waiters), ["long", "short", "equal"]);
}

#[test]
fn short_work_overtakes_long_work_that_has_not_waited_long() {
    let waiters = [("long", at(10, 8192)), ("short", at(20, 0)), ("later", at(26, 0))];
    assert_eq!(order(QueueOrder::ShortestWork, &waiters), ["short", "long", "later"]);
}

#[test]
fn priority_moves_a_request_by_a_bounded_time() {
    let urgent = |seconds| Waiter { priority: -1, ..at(seconds, 0) };
    let waiters =
        [("usual", at(100, 0)), ("urgent", urgent(129)), ("urgent but late", urgent(131))];
    assert_eq!(order(QueueOrder::Fcfs, &waiters), ["urgent", "usual", "urgent but late"]);
    let patient = Waiter { priority: i32::MAX, ..at(0, 0) };
    let waiters = [("patient", patient), ("usual", at(241, 0)), ("earlier", at(239, 0))];
    assert_eq!(order(QueueOrder::Fcfs, &waiters), ["earlier", "patient", "usual"]);
}

#[test]
fn a_full_room_refuses_and_a_place_that_was_given_back_is_free() {
    let mut room = WaitingRoom::new(QueueOrder::Fcfs, 1);
    let place = room.enter(at(0, 0), ()).unwrap();
    assert_eq!(room.enter(at(0, 0), ()), Err(RoomFull(1)));
    room.leave(place);
    assert!(room.is_empty());
    assert!(room.enter(at(0, 0), ()).is_ok());
}

proptest! {
    /// Whoever arrives 15 s and all steps of priority later is behind.
    #[test]
    fn nothing_starves(
        early in (0..1_000_000_u64, any::<i32>(), any::<u32>()),
        later in (0..1_000_000_u64, any::<i32>(), any::<u32>()),
    ) {
        let waiter = |(at, priority, uncached_tokens): (u64, i32, u32), offset: u64| Waiter {
            arrived_micros: at + offset, priority, uncached_tokens,
        };
        let bound = (15 + 2 * 8 * 30) * SECOND + 1_000_000;
        for order in [QueueOrder::Fcfs, QueueOrder::ShortestWork] {
            prop_assert!(turn(waiter(early, 0), order) < turn(waiter(later, bound + 1), order));
        }
    }
}
