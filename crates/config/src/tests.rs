use super::*;
use clap::Parser;

#[derive(Parser)]
struct Worker {
    #[command(flatten)]
    args: WorkerArgs,
}

#[derive(Parser)]
struct Router {
    #[command(flatten)]
    args: RouterArgs,
}

fn worker(flags: &[&str]) -> WorkerArgs {
    Worker::parse_from(["x", "--model", "Cargo.toml"].iter().chain(flags)).args
}

#[test]
fn defaults_are_valid_and_bind_to_loopback() {
    let settings = worker(&[]).check().unwrap();
    assert!(settings.listen.ip().is_loopback() && settings.kv_listen.ip().is_loopback());
    assert!(settings.engine.threads >= 1);
    let router = Router::parse_from(["x", "--model", "Cargo.toml"]).args.check().unwrap();
    assert!(router.http.ip().is_loopback() && router.grpc.ip().is_loopback());
}

#[test]
fn every_problem_is_reported_at_once() {
    let flags = ["--max-num-seqs", "0", "--max-waiting", "0", "--router", "nowhere"];
    let ConfigErrors(errors) = worker(&flags).check().unwrap_err();
    let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "`--max-num-seqs`: must be at least 1",
            "`--max-waiting`: must be at least 1",
            "`--router`: `nowhere` is not host:port",
        ]
    );
}

#[test]
fn a_missing_model_is_named() {
    let args = Worker::parse_from(["x", "--model", "no/such.gguf"]).args;
    let text = args.check().unwrap_err().to_string();
    assert_eq!(text, "`--model`: there is no file no/such.gguf");
}

#[test]
fn http_and_grpc_need_addresses_of_their_own() {
    let both = ["x", "--model", "Cargo.toml", "--http", "127.0.0.1:1", "--grpc", "127.0.0.1:1"];
    let text = Router::parse_from(both).args.check().unwrap_err().to_string();
    assert_eq!(text, "`--grpc`: 127.0.0.1:1 is the address of --http too");
}
