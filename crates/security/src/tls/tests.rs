use super::*;
use crate::testing::{Authority, Folder};
use std::fs;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls::RootCertStore;

fn folder() -> Folder {
    Folder::new(&std::env::temp_dir())
}

fn member(authority: &Authority) -> Tls {
    let folder = folder();
    Tls::load(authority.member(folder.path())).unwrap()
}

/// Two ends of a TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// What the server says of the client, and what the client hears at last.
async fn meet(
    server: &Tls,
    client: &Tls,
) -> (Result<(), HandshakeError>, Result<u8, HandshakeError>) {
    let (near, far) = pair().await;
    let accepted = async {
        let mut stream = server.accept(far).await?;
        stream.write_all(b"!").await.map_err(|error| HandshakeError::from(&error))?;
        Ok(())
    };
    let connected = async {
        let mut stream = client.connect(near).await?;
        stream.read_u8().await.map_err(|error| HandshakeError::from(&error))
    };
    tokio::join!(accepted, connected)
}

#[tokio::test]
async fn members_of_one_cluster_meet() {
    let authority = Authority::new();
    let (server, client) = (member(&authority), member(&authority));
    assert_eq!(meet(&server, &client).await, (Ok(()), Ok(b'!')));
}

#[tokio::test]
async fn members_of_another_cluster_are_refused_by_both_sides() {
    let (server, client) = (member(&Authority::new()), member(&Authority::new()));
    let (_, heard) = meet(&server, &client).await;
    let why = "it is not from the authority in --tls-ca".to_owned();
    assert_eq!(heard, Err(HandshakeError::BadCertificate(why.clone())));
    // A client that trusts the server's authority, and has a certificate of another one.
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (a, b) = (folder(), folder());
    let stranger = theirs.member(a.path());
    let both = format!("{}{}", ours.certificate(), theirs.certificate());
    let stranger = Tls::load(TlsFiles { ca: b.write("ca.pem", &both), ..stranger }).unwrap();
    let (accepted, heard) = meet(&member(&ours), &stranger).await;
    assert_eq!(accepted, Err(HandshakeError::BadCertificate(why)));
    assert!(matches!(heard, Err(HandshakeError::RefusedCertificate(_))), "{heard:?}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let (near, far) = pair().await;
    let mut roots = RootCertStore::empty();
    let folder = folder();
    for certificate in certificates(&authority.member(folder.path()).ca).unwrap() {
        roots.add(certificate).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let server = member(&authority);
    let heard = async {
        let mut stream = connector.connect(peer_name().unwrap(), near).await?;
        stream.read_u8().await
    };
    let (accepted, heard) = tokio::join!(server.accept(far), heard);
    assert_eq!(accepted.err(), Some(HandshakeError::NoCertificate));
    let heard = HandshakeError::from(&heard.unwrap_err());
    assert_eq!(heard, HandshakeError::RefusedCertificate("CertificateRequired".into()));
}

#[tokio::test]
async fn what_speaks_no_tls_is_named() {
    let authority = Authority::new();
    let tls = member(&authority);
    let (mut near, far) = pair().await;
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(speaks_tls(&far).await, Ok(false));
    assert_eq!(tls.accept(far).await.err(), Some(HandshakeError::PlainPeer));
    let (near, mut far) = pair().await;
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    assert_eq!(tls.connect(near).await.err(), Some(HandshakeError::PlainPeer));
}

#[tokio::test]
async fn a_handshake_is_known_by_its_first_bytes_also_when_they_come_one_by_one() {
    for (bytes, expected) in [(&[0x16, 3, 1][..], true), (&[0x16, 4], false), (b"P", false)] {
        let (mut near, far) = pair().await;
        let asked = speaks_tls(&far);
        let sent = async {
            for byte in bytes {
                near.write_u8(*byte).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert_eq!(tokio::join!(asked, sent).0, Ok(expected), "{bytes:?}");
    }
    let (near, far) = pair().await;
    drop(near);
    assert!(matches!(speaks_tls(&far).await, Err(HandshakeError::Failed(_))));
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let tls = member(&Authority::new());
    let (_near, far) = pair().await;
    assert_eq!(tls.accept(far).await.err(), Some(HandshakeError::Late));
}

#[tokio::test]
async fn handshakes_at_once_are_bounded() {
    let tls = member(&Authority::new());
    let turns = tls.handshakes.acquire_many(HANDSHAKES_MAX as u32).await.unwrap();
    let (_near, far) = pair().await;
    assert_eq!(tls.accept(far).await.err(), Some(HandshakeError::TooMany));
    drop(turns);
}

#[tokio::test]
async fn new_files_count_for_new_connections_at_once_and_broken_ones_never() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = folder();
    let server = Tls::load(old.member(folder.path())).unwrap();
    let (of_old, of_new) = (member(&old), member(&new));
    assert_eq!(meet(&server, &of_old).await, (Ok(()), Ok(b'!')));
    // A certificate that others would refuse is none.
    folder.write("cert.pem", &new.issue(PEER_NAME).0);
    tokio::time::sleep(crate::watched::CHECK_EVERY).await;
    assert_eq!(meet(&server, &of_old).await, (Ok(()), Ok(b'!')), "the old ones stay");
    new.member(folder.path());
    tokio::time::sleep(crate::watched::CHECK_EVERY).await;
    assert_eq!(meet(&server, &of_new).await, (Ok(()), Ok(b'!')));
    assert!(meet(&server, &of_old).await.1.is_err());
}

#[test]
fn each_bad_file_is_named_with_what_is_wrong() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = folder();
    let files = authority.member(folder.path());
    let error = |files: TlsFiles| Tls::load(files).unwrap_err().to_string();
    let missing = error(TlsFiles { key: folder.path().join("none.pem"), ..files.clone() });
    assert!(missing.starts_with("cannot read ") && missing.contains("none.pem: No such file"));
    let swapped = error(TlsFiles { ca: files.key.clone(), ..files.clone() });
    assert!(swapped.ends_with("key.pem holds no certificate in PEM form"), "{swapped}");
    let no_key = error(TlsFiles { key: files.cert.clone(), ..files.clone() });
    assert!(no_key.ends_with("cert.pem holds no private key in PEM form"), "{no_key}");
    let (strange, key) = other.issue(PEER_NAME);
    let strange = folder.write("strange.pem", &strange);
    let key = folder.write("strange-key.pem", &key);
    let refused = error(TlsFiles { cert: strange, ..files.clone() });
    assert!(refused.ends_with("it is not from the authority in --tls-ca"), "{refused}");
    let mismatch = error(TlsFiles { key, ..files.clone() });
    assert!(mismatch.contains("strange-key.pem: "), "{mismatch}");
    let (unnamed, key) = authority.issue("billing.example");
    let unnamed = folder.write("unnamed.pem", &unnamed);
    let key = folder.write("unnamed-key.pem", &key);
    let unnamed = error(TlsFiles { cert: unnamed, key, ..files.clone() });
    assert!(unnamed.ends_with("it lacks the DNS name `estafette`"), "{unnamed}");
    assert!(!fs::read_to_string(&files.key).unwrap().is_empty());
}

/// The name is asked of clients too: an authority that signs for others lets none of them in.
#[test]
fn a_certificate_without_the_name_is_refused_from_clients() {
    let authority = Authority::new();
    let folder = folder();
    let roots = Arc::new(authorities(&authority.member(folder.path()).ca).unwrap());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
    let clients = NamedClients(clients);
    for (name, welcome) in [(PEER_NAME, true), ("billing.example", false)] {
        let path = folder.write("one.pem", &authority.issue(name).0);
        let chain = certificates(&path).unwrap();
        let verified = clients.verify_client_cert(&chain[0], &[], UnixTime::now());
        assert_eq!(verified.is_ok(), welcome, "{name}: {verified:?}");
    }
}

#[test]
fn other_errors_are_left_as_they_are() {
    let plain = io::Error::new(io::ErrorKind::BrokenPipe, "x");
    assert_eq!(crate::explained(plain).to_string(), "x");
}
