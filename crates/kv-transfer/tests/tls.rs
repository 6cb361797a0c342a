//! Who gets in over TCP when certificates are asked for.

mod support;

use estafette_kv_transfer::HandoffError;
use estafette_security::Tls;
use estafette_security::testing::Authority;
use support::{PATIENCE, Setup, TransportChoice, member};

/// What becomes of a push from a worker with `theirs` to one with `ours`.
async fn push(ours: Option<Tls>, theirs: Option<Tls>) -> HandoffError {
    let mut setup = Setup::new(TransportChoice::Tcp);
    setup.certificates = [ours, theirs];
    let mut pair = setup.run().await;
    pair.expect(1);
    let _handle = pair.start(1, &[0], PATIENCE);
    let error = pair.outcome().await.expect_err("nobody is let in");
    assert!(pair.events.try_recv().is_err(), "the engine hears nothing of it");
    error
}

#[tokio::test]
async fn a_sender_without_tls_is_told_what_it_lacks() {
    let error = push(Some(member(&Authority::new())), None).await;
    let HandoffError::Refused(text) = &error else { panic!("{error}") };
    assert!(text.contains("start this process with --tls-ca"), "{text}");
}

#[tokio::test]
async fn a_sender_with_tls_sends_nothing_to_a_receiver_without() {
    let error = push(None, Some(member(&Authority::new()))).await;
    let HandoffError::PeerGone(text) = &error else { panic!("{error}") };
    assert!(text.contains("it does not speak TLS"), "{text}");
}

#[tokio::test]
async fn a_sender_of_another_cluster_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let error = push(Some(member(&ours)), Some(member(&theirs))).await;
    let HandoffError::PeerGone(text) = &error else { panic!("{error}") };
    assert!(text.contains("it is not from the authority in --tls-ca"), "{text}");
}
