use super::*;
use std::future::poll_fn;
use std::time::Duration;
use tokio::sync::oneshot;

fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Work that says which task has polled it last, and ends when it is told.
fn work()
-> (impl Future<Output = ()> + Send, oneshot::Sender<()>, oneshot::Receiver<tokio::task::Id>) {
    let (end, ended) = oneshot::channel();
    let (says, said) = oneshot::channel();
    let work = async move {
        drop(ended.await);
        let _ = says.send(tokio::task::id());
    };
    (work, end, said)
}

async fn run(work: &mut Work) {
    poll_fn(|cx| match work.poll(cx) {
        Worked::Here(polled) => polled,
        Worked::Elsewhere => panic!("it is here"),
    })
    .await;
}

#[tokio::test]
async fn it_runs_in_the_task_that_waits_for_it() {
    let (future, end, said) = work();
    let waiting = tokio::spawn(async {
        let mut work = Work::new(future, in_an_hour(), Leaves::default());
        run(&mut work).await;
        assert!(matches!(poll_fn(|cx| Poll::Ready(work.poll(cx))).await, Worked::Elsewhere));
        tokio::task::id()
    });
    end.send(()).unwrap();
    assert_eq!(said.await.unwrap(), waiting.await.unwrap());
}

#[tokio::test]
async fn it_goes_on_when_its_owner_is_gone() {
    let (future, end, said) = work();
    let owner = tokio::spawn(async {
        let mut work = Work::new(future, in_an_hour(), Leaves::default());
        let polled = poll_fn(|cx| Poll::Ready(work.poll(cx))).await;
        assert!(matches!(polled, Worked::Here(Poll::Pending)));
        tokio::task::id()
    });
    let owner = owner.await.unwrap();
    end.send(()).unwrap();
    assert_ne!(said.await.unwrap(), owner);
}

#[tokio::test]
async fn it_goes_on_at_its_deadline_though_its_owner_does_not_ask() {
    let (future, end, said) = work();
    let mut work = Work::new(future, Instant::now(), Leaves::default());
    end.send(()).unwrap();
    said.await.unwrap();
    assert!(matches!(poll_fn(|cx| Poll::Ready(work.poll(cx))).await, Worked::Elsewhere));
}

#[tokio::test]
async fn its_owner_hears_when_it_is_taken_away() {
    let (future, _end, _said) = work();
    let mut work = Work::new(future, Instant::now(), Leaves::default());
    let mut polled = 0;
    poll_fn(|cx| {
        polled += 1;
        match work.poll(cx) {
            Worked::Here(_) => Poll::Pending,
            Worked::Elsewhere => Poll::Ready(()),
        }
    })
    .await;
    assert_eq!(polled, 2);
}

#[test]
fn without_a_runtime_it_is_dropped() {
    let (future, end, said) = work();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let work = runtime.block_on(async { Work::new(future, in_an_hour(), Leaves::default()) });
    drop(runtime);
    drop(work);
    assert!(end.send(()).is_err());
    assert!(said.blocking_recv().is_err());
}
