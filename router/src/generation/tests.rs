use super::*;
use std::time::Instant;

fn token(index: u32) -> GenerationEvent {
    GenerationEvent::Token(v1::Token { index, ..v1::Token::default() })
}

/// A generation whose work says `count` tokens and an error, and whose deadline is at `deadline`.
fn generation(count: usize, deadline: Instant) -> Generation {
    let (events, received) = mpsc::channel(EVENT_QUEUE);
    let (stop, stopped) = oneshot::channel();
    let leaves = Leaves::default();
    let client = Client { events, stop: stopped, turn: Turn::order().0, leaves: leaves.clone() };
    let work = async move {
        for index in 0..count {
            assert!(client.token(v1::Token { index: index as u32, ..v1::Token::default() }).await);
        }
        client.events.send(Err(gone())).await.unwrap();
    };
    Generation { events: received, stop: Some(stop), work: Work::new(work, deadline, leaves) }
}

async fn check(mut generation: Generation, count: usize) {
    for index in 0..count {
        let event = poll_fn(|cx| generation.poll_next(cx)).await;
        assert_eq!(event, Some(Ok(token(index as u32))));
    }
    let last = poll_fn(|cx| generation.poll_next(cx)).await;
    assert_eq!(last, Some(Err(gone())));
    assert_eq!(poll_fn(|cx| generation.poll_next(cx)).await, None);
}

#[tokio::test]
async fn every_event_comes_once_and_in_order_also_when_there_are_more_than_the_queue_holds() {
    for count in [0, 1, EVENT_QUEUE, 5 * EVENT_QUEUE] {
        check(generation(count, Instant::now() + Duration::from_secs(3600)), count).await;
    }
}

#[tokio::test]
async fn so_it_is_when_the_work_is_taken_away_at_the_deadline() {
    for count in [0, EVENT_QUEUE, 5 * EVENT_QUEUE] {
        let generation = generation(count, Instant::now());
        while generation.work.is_here() {
            tokio::task::yield_now().await;
        }
        check(generation, count).await;
    }
}

/// A client that does not read must not hold up those who wait behind it in the room.
#[tokio::test]
async fn whoever_waits_for_a_place_goes_on_without_being_asked() {
    let (found, place) = oneshot::channel::<()>();
    let (acted, acts) = oneshot::channel();
    let leaves = Leaves::default();
    let asking = leaves.clone();
    let work = async move {
        placed(place, &asking).await.unwrap();
        acted.send(()).unwrap();
    };
    let mut work = Work::new(work, Instant::now() + Duration::from_secs(3600), leaves);
    let worked = poll_fn(|cx| Poll::Ready(work.poll(cx))).await;
    assert!(matches!(worked, Worked::Elsewhere));
    found.send(()).unwrap();
    timeout(Duration::from_secs(60), acts).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_ends_the_work_and_not_its_owner() {
    let work = async { panic!("a bug") };
    let deadline = Instant::now() + Duration::from_secs(3600);
    let mut work = Work::new(work, deadline, Leaves::default());
    let worked = poll_fn(|cx| Poll::Ready(work.poll(cx))).await;
    assert!(matches!(worked, Worked::Here(Poll::Ready(()))));
}
