//! The same seed gives the same event log in another process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use estafette_simulator::{
    ClusterSettings, DEFAULT_PRESET, Policy, Synthetic, generate, preset, simulate,
};
use std::io::Write;
use std::process::Command;

fn log() -> Vec<u8> {
    let settings = ClusterSettings {
        state_loss_ppm: 1000,
        ..ClusterSettings::new(2, 2, preset(DEFAULT_PRESET).unwrap())
    };
    let workload =
        generate(&Synthetic { sessions: 30, sessions_per_second: 2.0, ..Synthetic::default() });
    let mut bytes = Vec::new();
    for policy in Policy::all() {
        let outcome =
            simulate(&settings, &workload, policy, 1.0, 7, Some(&mut bytes), &mut |_| ()).unwrap();
        writeln!(bytes, "{} {:016x}", policy.name(), outcome.log_hash).unwrap();
    }
    bytes
}

/// The other process of the test below runs this one.
#[test]
fn a_run_has_a_log() {
    let log = log();
    assert!(log.len() > 1000 && log.ends_with(b"\n"));
    std::io::stdout().write_all(&log).unwrap();
}

#[test]
fn logs_are_equal_to_the_last_byte() {
    let run = || {
        let program = std::env::current_exe().unwrap();
        let arguments = ["--exact", "a_run_has_a_log", "--nocapture", "--quiet"];
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let printed = run();
    let log = log();
    assert!(
        printed.windows(log.len()).any(|part| part == log),
        "this process and the other differ"
    );
    // The harness prints how long it took; all the rest is the log.
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().filter(|line| !line.starts_with("test result")).map(String::from).collect()
    };
    assert_eq!(lines(&printed), lines(&run()));
}
