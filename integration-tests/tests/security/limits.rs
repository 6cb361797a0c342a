//! What one client may take from the others.

use super::{Authority, Router, folder};
use estafette_integration_tests::eventually;
use estafette_integration_tests::process::Part;
use estafette_security::rustls::pki_types::ServerName;
use estafette_security::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the server lets a silent client be; then what it said.
fn read_to_end(mut stream: TcpStream) -> (Duration, String) {
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text));
    (began.elapsed(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_client_that_sends_half_a_request_is_gone_within_seconds() {
    let router = Router::start(&[]);
    let mut http = TcpStream::connect(&router.http_address).unwrap();
    http.write_all(b"POST /v1/chat/completions HT").unwrap();
    let mut grpc = TcpStream::connect(&router.grpc_address).unwrap();
    grpc.write_all(b"PRI * HTTP/2.0").unwrap();
    for (what, stream) in [("http", http), ("grpc", grpc)] {
        let (time, text) = read_to_end(stream);
        assert!(time < Duration::from_secs(20), "{what}: {time:?}");
        assert_eq!(text, "", "{what}");
    }
}

#[test]
fn a_header_that_is_too_large_is_431_and_a_body_413() {
    let router = Router::start(&["--max-body=1KiB".to_owned()]);
    let mut stream = TcpStream::connect(&router.http_address).unwrap();
    let header = "x".repeat(70 << 10);
    drop(write!(stream, "GET /health/live HTTP/1.1\r\nhost: x\r\nx: {header}\r\n\r\n"));
    let (_, text) = read_to_end(stream);
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    let (_worker, _log) = router.worker("w", &[]);
    router.wait_for_workers(1);
    let reply = router.http.post_bytes("/v1/completions", &[b' '; 2000]);
    assert_eq!(reply.error().0, 413);
}

#[test]
fn silent_clients_do_not_hold_up_a_stop() {
    let mut router = Router::start(&[]);
    let mut half = TcpStream::connect(&router.http_address).unwrap();
    half.write_all(b"GET /health/li").unwrap();
    let _silent = TcpStream::connect(&router.http_address).unwrap();
    let _grpc = TcpStream::connect(&router.grpc_address).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let part: &mut Part = &mut router.part;
    part.terminate();
    let mut code = None;
    assert!(eventually(|| {
        code = part.ended();
        code.is_some()
    }));
    assert_eq!(code, Some(Some(0)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn the_http_api_speaks_tls_when_it_has_a_certificate() {
    let (authority, folder) = (Authority::new(), folder());
    let (cert, key) = authority.issue("api.example");
    let cert = folder.write("http-cert.pem", &cert);
    let key = folder.write("http-key.pem", &key);
    let flags = [
        format!("--http-tls-cert={}", cert.display()),
        format!("--http-tls-key={}", key.display()),
    ];
    let router = Router::without_http(&flags);
    router.log.wait_for("router");
    let mut roots = RootCertStore::empty();
    let ca = folder.write("ca.pem", authority.certificate());
    use estafette_security::rustls::pki_types::pem::PemObject;
    let ca = estafette_security::rustls::pki_types::CertificateDer::from_pem_file(ca).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(
        estafette_security::rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let name = ServerName::try_from("api.example").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(&router.http_address).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    drop(stream.read_to_string(&mut text));
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    // Without TLS there is nothing to be had.
    let mut plain = TcpStream::connect(&router.http_address).unwrap();
    plain.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let (_, text) = read_to_end(plain);
    assert!(!text.contains("200 OK"), "{text}");
}
