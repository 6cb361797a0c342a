use super::*;
use std::time::Instant;
use tokio::sync::oneshot;

#[tokio::test]
async fn silence_is_noticed_in_time_and_a_word_at_once() {
    let began = Instant::now();
    let patience = Duration::from_millis(50);
    assert_eq!(heard(std::future::pending::<()>(), patience).await, None);
    assert!(began.elapsed() >= patience);
    assert_eq!(heard(std::future::ready(3), patience).await, Some(3));
}

/// What was said while this process did not run is read by another task, after its own clocks have fired.
#[tokio::test]
async fn a_router_that_was_stopped_hears_first_what_was_said_meanwhile() {
    let patience = Duration::from_millis(100);
    let (say, said) = oneshot::channel();
    let waiting = tokio::spawn(heard(said, patience));
    tokio::task::yield_now().await;
    // The whole runtime stands still for longer than the wait.
    std::thread::sleep(2 * patience);
    tokio::spawn(async move {
        tokio::task::yield_now().await;
        say.send("here").unwrap();
    });
    assert_eq!(waiting.await.unwrap(), Some(Ok("here")));
}
