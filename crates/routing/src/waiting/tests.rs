use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

fn at(seconds: u64, uncached_tokens: u32) -> Waiter {
    Waiter { arrived_micros: seconds * SECOND, uncached_tokens, ..Waiter::default() }
}

/// Names in the order in which they are sent.
fn order(order: QueueOrder, waiters: &[(&'static str, Waiter)]) -> Vec<&'static str> {
    let mut room = WaitingRoom::new(order, 100);
    let mut places: Vec<_> =
        waiters.iter().map(|(name, waiter)| room.enter(*waiter, (), *name).unwrap()).collect();
    let mut sent = Vec::new();
    while let Some(name) = room.next(|()| Openings::ALL).copied() {
        sent.push(name);
        let is_next = |place: &Place<()>| room.is_next(place, |()| Openings::ALL);
        let next = places.iter().position(is_next).unwrap();
        room.leave(places.swap_remove(next));
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
fn a_full_room_refuses_newcomers_and_a_place_that_was_given_back_is_free() {
    let mut room = WaitingRoom::new(QueueOrder::Fcfs, 1);
    let place = room.enter(at(0, 0), (), ()).unwrap();
    assert_eq!(room.enter(at(0, 0), (), ()), Err(RoomFull(1)));
    let begun = room.enter(Waiter { begun: true, ..at(0, 0) }, (), ()).unwrap();
    room.leave(place);
    assert!(room.is_full(), "who has begun takes a place too");
    room.leave(begun);
    assert!(room.is_empty());
    assert!(room.enter(at(0, 0), (), ()).is_ok());
}

/// Two workers: `a` is small, `b` is large. Who may go where is the kind: each letter is an allowed worker.
fn openings(a: bool, b: bool) -> impl Fn(&&'static str) -> Openings {
    move |kind| {
        let size = |worker, open: bool| {
            let blocks = if worker == 'a' { 10 } else { 100 };
            if kind.contains(worker) { (blocks * u64::from(open), blocks) } else { (0, 0) }
        };
        let (a, b) = (size('a', a), size('b', b));
        Openings { now: a.0.max(b.0), ever: a.1.max(b.1) }
    }
}

fn sized(seconds: u64, blocks: u64) -> Waiter {
    Waiter { blocks, ..at(seconds, 0) }
}

#[test]
fn who_cannot_be_seated_now_holds_up_nobody_behind_him_that_can() {
    let mut room = WaitingRoom::new(QueueOrder::Fcfs, 10);
    let _failed_on_a = room.enter(sized(1, 5), "b", "failed on a").unwrap();
    let _long = room.enter(sized(2, 50), "ab", "long").unwrap();
    let _short = room.enter(sized(3, 5), "ab", "short").unwrap();
    assert_eq!(room.next(openings(false, false)), None);
    assert_eq!(room.next(openings(true, false)), Some(&"short"));
    assert_eq!(room.next(openings(false, true)), Some(&"failed on a"));
}

#[test]
fn of_those_that_compete_for_a_place_the_first_gets_it() {
    let mut room = WaitingRoom::new(QueueOrder::Fcfs, 10);
    let first = room.enter(sized(1, 50), "ab", 1).unwrap();
    let second = room.enter(sized(2, 5), "b", 2).unwrap();
    let _third = room.enter(sized(3, 5), "ab", 3).unwrap();
    assert!(
        room.is_next(&first, openings(true, true)) && !room.is_next(&second, openings(true, true))
    );
    room.leave(first);
    assert_eq!(
        room.next(openings(true, true)),
        Some(&2),
        "a place at `a` does not reorder those for `b`"
    );
    assert_eq!(room.next(openings(true, false)), Some(&3));
}

#[test]
fn who_waits_in_vain_is_called_to_hear_it() {
    let mut room = WaitingRoom::new(QueueOrder::Fcfs, 10);
    let _waits = room.enter(sized(1, 5), "a", "waits").unwrap();
    let _too_long = room.enter(sized(2, 11), "a", "too long").unwrap();
    assert_eq!(room.next(openings(false, true)), Some(&"too long"));
    assert_eq!(openings(false, true)(&"a").check(11), Err(NoChoice::NoWorker));
}

/// A record that comes while every queue is full must not cost a look at everybody who waits.
#[test]
fn a_full_cluster_is_asked_once_for_each_kind_and_not_for_each_request() {
    let mut room = WaitingRoom::new(QueueOrder::Fcfs, 10_000);
    let _places: Vec<_> = (1..9_000)
        .map(|i| room.enter(sized(i, i), ["a", "b", "ab"][i as usize % 3], i).unwrap())
        .collect();
    let asked = std::cell::Cell::new(0);
    let counted = |kind: &&'static str| {
        asked.set(asked.get() + 1);
        assert!(["a", "b", "ab"].contains(kind));
        Openings { now: 0, ever: 10_000 }
    };
    assert_eq!(room.next(counted), None);
    assert_eq!(asked.get(), 3);
}

proptest! {
    /// Whoever arrives 15 s and all steps of priority later is behind.
    #[test]
    fn nothing_starves(
        early in (0..1_000_000_u64, any::<i32>(), any::<u32>()),
        later in (0..1_000_000_u64, any::<i32>(), any::<u32>()),
    ) {
        let waiter = |(at, priority, uncached_tokens): (u64, i32, u32), offset: u64| Waiter {
            arrived_micros: at + offset, priority, uncached_tokens, ..Waiter::default()
        };
        let bound = (15 + 2 * 8 * 30) * SECOND + 1_000_000;
        for order in [QueueOrder::Fcfs, QueueOrder::ShortestWork] {
            prop_assert!(turn(waiter(early, 0), order) < turn(waiter(later, bound + 1), order));
        }
    }

    /// Against a list that is searched from its beginning.
    #[test]
    fn the_next_one_is_the_first_that_finds_a_place_or_waits_in_vain(
        waiters in proptest::collection::vec((0..50u64, 1..120u64, 0..3usize), 0..40),
        gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        (a, b) in (any::<bool>(), any::<bool>()),
    ) {
        let mut room = WaitingRoom::new(QueueOrder::Fcfs, 100);
        let mut list = Vec::new();
        for (i, (seconds, blocks, kind)) in waiters.into_iter().enumerate() {
            let kind = ["a", "b", "ab"][kind];
            let place = room.enter(sized(seconds, blocks), kind, i).unwrap();
            list.push(((seconds, i), blocks, kind, place));
        }
        for index in gone {
            if !list.is_empty() {
                room.leave(list.swap_remove(index.index(list.len())).3);
            }
        }
        prop_assert_eq!(room.len(), list.len());
        list.sort_by_key(|(turn, ..)| *turn);
        let due = |blocks, kind| openings(a, b)(&kind).check(blocks) != Err(NoChoice::Saturated);
        let expected = list.iter().find(|(_, blocks, kind, _)| due(*blocks, *kind));
        prop_assert_eq!(room.next(openings(a, b)), expected.map(|((_, i), ..)| i));
        for (turn, .., place) in &list {
            let is_expected = expected.is_some_and(|(expected, ..)| expected == turn);
            prop_assert_eq!(room.is_next(place, openings(a, b)), is_expected);
        }
    }
}
