use super::*;
use std::sync::mpsc::sync_channel;

#[test]
fn no_command_is_lost_when_more_wait_than_one_step_takes() {
    let (sender, queue) = sync_channel(10);
    (0..10).for_each(|i| sender.try_send(i).unwrap());
    assert_eq!(batch(Some(-1), &queue, 4), [-1, 0, 1, 2]);
    assert_eq!(batch(None, &queue, 4), [3, 4, 5, 6]);
    assert_eq!(batch(None, &queue, 4), [7, 8, 9]);
    assert!(batch(None, &queue, 4).is_empty());
}
