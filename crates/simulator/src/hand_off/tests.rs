use super::*;

/// One byte in a microsecond, blocks of 100 bytes, 4 layer groups.
fn links() -> HandOffs {
    HandOffs::new(100, 1_000_000, 4)
}

#[test]
fn what_is_granted_in_time_is_hidden_but_for_the_last_group() {
    let mut links = links();
    links.begin(1, 0, 8, 0, 0);
    assert_eq!(links.granted(1, 0, 10), None, "nothing is computed");
    // 4 blocks, 400 µs on the wire, computed from 0 to 1000: the last group's 100 µs follow.
    assert_eq!(links.computed(1, (0, 4), 0, 1000, true), Some(1100));
    assert_eq!(links.bytes, 400);
    assert_eq!(links.end(1), Some(0));
    assert_eq!(links.end(1), None);
}

#[test]
fn a_slow_link_is_what_is_waited_for() {
    let mut links = links();
    links.begin(1, 0, 8, 0, 0);
    links.granted(1, 0, 10);
    // The first of 4 groups is there after 25 µs; 400 µs on the wire.
    assert_eq!(links.computed(1, (0, 4), 0, 100, true), Some(425));
}

#[test]
fn without_a_grant_nothing_leaves() {
    let mut links = links();
    links.begin(1, 0, 8, 2, 0);
    assert_eq!(links.computed(1, (2, 4), 0, 100, true), None);
    assert_eq!(links.granted(1, 0, 5000), Some(5400), "4 blocks from the grant on");
}

#[test]
fn blocks_that_the_receiver_holds_stay_where_they_are() {
    let mut links = links();
    links.begin(1, 0, 8, 2, 0);
    links.granted(1, 3, 1);
    assert_eq!(links.computed(1, (2, 4), 0, 1000, true), Some(1025));
    assert_eq!(links.bytes, 100, "one block of four");
    links.begin(2, 0, 8, 0, 2000);
    links.granted(2, 4, 2000);
    assert_eq!(links.computed(2, (0, 4), 2000, 2100, true), Some(2100), "nothing to send");
}

#[test]
fn hand_offs_that_share_a_link_come_one_after_the_other() {
    let mut links = links();
    for (turn, receiver) in [(1, 8), (2, 9), (3, 8)] {
        links.begin(turn, turn, receiver, 4, 0);
        links.computed(turn, (4, 4), 0, 0, true);
    }
    assert_eq!(links.granted(1, 0, 0), Some(400));
    assert_eq!(links.granted(2, 0, 0), Some(400), "another sender, another receiver");
    assert_eq!(links.granted(3, 0, 0), Some(800), "another sender, the first receiver");
}
