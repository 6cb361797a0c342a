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

#[test]
fn a_worker_that_listens_on_all_addresses_must_say_how_it_is_reached() {
    let ConfigErrors(errors) = worker(&["--listen", "0.0.0.0:9000"]).check().unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "`--listen`: nobody can connect to 0.0.0.0: say with --advertise by which host"
    );
    let flags = ["--listen", "0.0.0.0:9000", "--kv-listen", "[::]:9001", "--advertise", "w-0.pool"];
    let settings = worker(&flags).check().unwrap();
    let host = settings.advertise.as_deref();
    assert_eq!(advertised(host, settings.kv_listen), "w-0.pool:9001");
    assert_eq!(advertised(Some("fd00::1"), settings.kv_listen), "[fd00::1]:9001");
    assert_eq!(advertised(None, "127.0.0.1:9000".parse().unwrap()), "127.0.0.1:9000");
}

#[test]
fn tls_flags_come_all_or_none_and_the_missing_ones_are_named() {
    assert_eq!(worker(&[]).check().unwrap().tls, None);
    let all = ["--tls-ca", "Cargo.toml", "--tls-cert", "Cargo.toml", "--tls-key", "Cargo.toml"];
    let args = worker(&all);
    assert_eq!(args.tls.flags().len(), 3);
    let files = args.check().unwrap().tls.unwrap();
    assert_eq!(files.key, std::path::Path::new("Cargo.toml"));
    let ConfigErrors(errors) =
        worker(&["--tls-cert", "Cargo.toml", "--tls-key", "none.pem"]).check().unwrap_err();
    let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "`--tls-ca`: is missing: --tls-ca, --tls-cert and --tls-key are given together or not at all",
            "`--tls-key`: there is no file none.pem",
        ]
    );
}

#[test]
fn https_needs_certificate_and_key() {
    let args = ["x", "--model", "Cargo.toml", "--http-tls-key", "Cargo.toml"];
    let text = Router::parse_from(args).args.check().unwrap_err().to_string();
    assert_eq!(
        text,
        "`--http-tls-cert`: is missing: --http-tls-cert and --http-tls-key are given together"
    );
}

#[test]
fn a_missing_key_file_is_named() {
    let args = ["x", "--model", "Cargo.toml", "--api-keys", "none.txt"];
    let text = Router::parse_from(args).args.check().unwrap_err().to_string();
    assert_eq!(text, "`--api-keys`: there is no file none.txt");
}
