//! Who is let in, as real processes see it: certificates, keys, limits.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod certificates;
mod keys;
mod limits;
mod rotation;

use estafette_integration_tests::cluster::free_addresses;
use estafette_integration_tests::eventually;
use estafette_integration_tests::http::Http;
use estafette_integration_tests::process::{Log, Part};
use estafette_security::testing::{Authority, Folder};
use estafette_types::TlsFiles;

/// A folder for certificates and keys.
fn folder() -> Folder {
    Folder::new(&std::env::temp_dir())
}

/// `files` as flags.
fn flags(files: &TlsFiles) -> Vec<String> {
    let flag = |name, path: &std::path::Path| format!("--tls-{name}={}", path.display());
    vec![flag("ca", &files.ca), flag("cert", &files.cert), flag("key", &files.key)]
}

/// The flags of a member of `authority`'s cluster, whose files are in `folder`.
fn member(authority: &Authority, folder: &Folder) -> Vec<String> {
    flags(&authority.member(folder.path()))
}

/// A router of its own process.
struct Router {
    http: Http,
    http_address: String,
    grpc_address: String,
    log: Log,
    part: Part,
}

impl Router {
    fn start(extra: &[String]) -> Self {
        Self::with_log("info", extra)
    }

    /// With `filter` as its `RUST_LOG`.
    fn with_log(filter: &str, extra: &[String]) -> Self {
        let router = Self::begin(filter, extra);
        let log = &router.log;
        assert!(eventually(|| router.http.try_get("/health/live").is_ok()), "{}", log.text());
        router
    }

    /// Whose HTTP API cannot be asked without TLS.
    fn without_http(extra: &[String]) -> Self {
        let router = Self::begin("info", extra);
        let there = || std::net::TcpStream::connect(&router.http_address).is_ok();
        assert!(eventually(there), "{}", router.log.text());
        router
    }

    fn begin(filter: &str, extra: &[String]) -> Self {
        let [http_address, grpc_address] = free_addresses();
        let mut args = vec!["router", "--http", &http_address, "--grpc", &grpc_address];
        args.extend(extra.iter().map(String::as_str));
        let (part, log) = Part::logged(filter, &args);
        let http = Http::new(&http_address);
        Self { http, http_address, grpc_address, log, part }
    }

    /// A worker that computes nothing, for this router.
    fn worker(&self, id: &str, extra: &[String]) -> (Part, Log) {
        let mut args = vec!["decode-worker", "--id", id, "--router", &self.grpc_address];
        args.extend(["--backend", "mock", "--mock-step", "1ms"]);
        args.extend(extra.iter().map(String::as_str));
        Part::logged("info", &args)
    }

    fn decode_workers(&self) -> u64 {
        self.http.metrics().sum("estafette_workers", &["decode"])
    }

    fn wait_for_workers(&self, count: u64) {
        let there = eventually(|| self.decode_workers() == count);
        assert!(there, "{} workers: {}", self.decode_workers(), self.log.text());
    }
}
