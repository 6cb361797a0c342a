//! What cannot work is said before anything runs, in words, with an exit code.

use estafette_integration_tests::cluster::{free_addresses, run};
use estafette_integration_tests::model;
use std::net::TcpListener;
use std::path::PathBuf;

/// Exit code and standard error of `estafette` with these arguments.
fn fails(args: &[&str]) -> (i32, String) {
    let output = run(args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("estafette-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn bad_flags_are_all_reported_with_exit_code_64() {
    let (code, text) =
        fails(&["up", "--model", "no/such.gguf", "--max-num-seqs", "0", "--kv-memory", "1GiB"]);
    assert_eq!(code, 64);
    assert!(text.contains("`--model`: there is no file no/such.gguf"), "{text}");
    assert!(text.contains("`--max-num-seqs`: must be at least 1"), "{text}");
    let (code, text) = fails(&["up", "--kv-memory", "lots"]);
    assert_eq!(code, 64);
    assert!(
        text.contains("`lots` is not a size: write a number and a unit, for example `512MiB`"),
        "{text}"
    );
    let (code, text) = fails(&["up", "--decode", "0"]);
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("at least one decode worker"), "{text}");
    assert_eq!(fails(&["upp"]).0, 64);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let [_, grpc] = free_addresses();
    let (code, text) = fails(&["up", "--http", &address, "--grpc", &grpc]);
    assert_eq!(code, 1);
    assert!(
        text.contains(&format!("cannot listen on {address} for HTTP: Address already in use")),
        "{text}"
    );
}

#[test]
fn a_damaged_model_is_named_by_router_and_worker() {
    let whole = estafette_gguf::tiny::tiny_llama(1);
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2);
    let architecture = String::from_utf8_lossy(&whole).find("llama").unwrap();
    let mut other = whole.clone();
    other[architecture..architecture + 5].copy_from_slice(b"mamba");
    for (name, bytes, words) in [
        ("garbage.gguf", &b"this is not a model"[..], "this is no GGUF file"),
        ("empty.gguf", b"", "truncated"),
        ("cut.gguf", &cut, "the file is truncated: tensor"),
        ("other.gguf", &other, "architecture `mamba` is not supported, only llama"),
    ] {
        let path = file(name, bytes);
        let path = path.to_str().unwrap();
        let (code, text) = fails(&["decode-worker", "--model", path]);
        assert_eq!(code, 1, "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
        let [http, grpc] = free_addresses();
        let (code, text) = fails(&["up", "--model", path, "--http", &http, "--grpc", &grpc]);
        assert_eq!(code, 1, "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_worker_with_another_model_is_refused_by_the_router() {
    use estafette_integration_tests::cluster::Cluster;
    let cluster = Cluster::start(&["--prefill", "0"]);
    let tiny = model::tiny();
    let (code, text) = fails(&[
        "decode-worker",
        "--model",
        tiny.to_str().unwrap(),
        "--router",
        &cluster.grpc_address,
    ]);
    assert_eq!(code, 1);
    assert!(
        text.contains("refused this worker: it serves another model file than the router"),
        "{text}"
    );
}

#[test]
fn pull_says_what_is_wrong_and_what_is_missing() {
    let (code, text) = fails(&["pull", "not-a-repository"]);
    assert_eq!(code, 1);
    assert!(text.contains("`not-a-repository` is not ORG/REPO or ORG/REPO:file.gguf"), "{text}");
}
