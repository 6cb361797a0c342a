//! New certificates count without a restart.

use super::{Authority, Router, flags, folder, member};
use estafette_integration_tests::cluster::run;
use serde_json::json;
use std::time::Duration;

/// Files are looked at once a second.
const LOOK: Duration = Duration::from_millis(1_100);

#[test]
fn new_files_are_used_for_new_connections_while_old_ones_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let shared = folder();
    let router = Router::start(&member(&old, &shared));
    let (_first, _log) = router.worker("first", &flags(&old.member(shared.path())));
    router.wait_for_workers(1);
    // A broken file changes nothing.
    shared.write("cert.pem", "no certificate");
    std::thread::sleep(LOOK);
    let elsewhere = folder();
    let (_second, _log) = router.worker("second", &member(&old, &elsewhere));
    router.wait_for_workers(2);
    router.log.wait_for("cannot be used, the old ones stay in force");
    // Another authority altogether.
    let files = new.member(shared.path());
    std::thread::sleep(LOOK);
    let (_third, _log) = router.worker("third", &flags(&files));
    router.wait_for_workers(3);
    router.log.wait_for("the certificates of this process changed and were read again");
    let (_late, log) = router.worker("late", &flags(&old.member(elsewhere.path())));
    log.wait_for("it is not from the authority in --tls-ca");
    assert_eq!(router.decode_workers(), 3, "connections that were there go on");
    for _ in 0..6 {
        let body = json!({ "prompt": [1, 2, 3], "max_tokens": 2 });
        assert_eq!(router.http.post("/v1/completions", &body).status, 200);
    }
    let explain = ["route", "explain", "Hi", "--router", &router.grpc_address];
    let args = [explain.map(str::to_owned).to_vec(), flags(&files)].concat();
    let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
