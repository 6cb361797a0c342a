//! Processes show each other certificates, or do not talk.

use super::{Authority, Router, flags, folder, member};
use estafette_integration_tests::cluster::{Cluster, run};
use estafette_integration_tests::eventually;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_whole_request_goes_over_mutual_tls_with_the_same_tokens() {
    let (authority, folder) = (Authority::new(), folder());
    let tls = member(&authority, &folder);
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    let over_tcp = ["--transport", "tcp"];
    let prompt = "Tell a story of four runners who pass a baton. ".repeat(6);
    let options = json!({ "max_tokens": 24, "temperature": 0.8, "seed": 3, "ignore_eos": true });
    let plain = Cluster::start(&over_tcp).chat(&prompt, &options);
    let cluster = Cluster::start(&[&over_tcp[..], &tls].concat());
    let secure = cluster.chat(&prompt, &options);
    assert_eq!(secure["choices"], plain["choices"]);
    assert_eq!(secure["usage"], plain["usage"]);
    assert_eq!(cluster.metric("estafette_routes_total", &["disaggregated"]), 1);
    let recomputed = cluster.metric("estafette_tokens_total", &["recomputed"]);
    assert_eq!(recomputed, 0, "the KV came over TLS, it was not computed again");
}

#[test]
fn what_speaks_no_tls_is_told_so_and_logged() {
    let (authority, folder) = (Authority::new(), folder());
    let router = Router::start(&member(&authority, &folder));
    let (mut worker, log) = router.worker("plain", &[]);
    let mut code = None;
    assert!(eventually(|| {
        code = worker.ended();
        code.is_some()
    }));
    assert_eq!(code, Some(Some(1)));
    log.wait_for("start this process with --tls-ca, --tls-cert and --tls-key too");
    router.log.wait_for("a connection was refused");
    router.log.wait_for("it does not speak TLS");
    assert_eq!(router.decode_workers(), 0);
    // A command that asks the router hears the same.
    let explain = ["route", "explain", "Hi", "--router", &router.grpc_address];
    let output = run(&explain);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("start this process with --tls-ca"), "{text}");
}

#[test]
fn a_worker_of_another_cluster_is_not_let_in_and_both_say_why() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (a, b, c) = (folder(), folder(), folder());
    let router = Router::start(&member(&ours, &a));
    let (_stranger, log) = router.worker("stranger", &member(&theirs, &b));
    log.wait_for("it is not from the authority in --tls-ca");
    // One that trusts the router, and is not trusted.
    let both = format!("{}{}", ours.certificate(), theirs.certificate());
    let files = theirs.member(c.path());
    c.write("ca.pem", &both);
    let (_naive, log) = router.worker("naive", &flags(&files));
    log.wait_for("it does not accept the certificate of this process");
    router.log.wait_for("its certificate is not accepted here: it is not from the authority");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(router.decode_workers(), 0);
}

#[test]
fn a_worker_with_tls_says_that_its_router_has_none() {
    let (authority, folder) = (Authority::new(), folder());
    let router = Router::start(&[]);
    let (_worker, log) = router.worker("secure", &member(&authority, &folder));
    log.wait_for("it does not speak TLS");
    router.log.wait_for("it speaks TLS: start this process with --tls-ca");
    assert_eq!(router.decode_workers(), 0);
}

#[test]
fn certificates_that_cannot_work_are_named_at_the_start() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (a, b) = (folder(), folder());
    let mut files = ours.member(a.path());
    files.cert = theirs.member(b.path()).cert;
    let args = [vec!["router".to_owned()], flags(&files)].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = run(&args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("cert.pem: every other process would refuse this certificate"), "{text}");
    let output = run(&args[..3]);
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("`--tls-key`: is missing"), "{text}");
}
