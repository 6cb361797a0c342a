//! TLS between the processes of a cluster: both sides show a certificate of the cluster's authority.

use crate::pem::{authorities, certificates, private_key, unusable};
use crate::verify::{NamedClients, peer_name};
use crate::watched::{Source, Watched};
use crate::{FileError, HandshakeError};
use estafette_types::TlsFiles;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, Error, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The DNS name that every process has in its certificate. It says "a member of the cluster", not where the member runs:
/// the addresses of pods are not known when certificates are made, and change while they are valid.
pub const PEER_NAME: &str = "estafette";

/// A handshake must be over within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes of peers at once; they cost CPU before anybody has said who he is.
const HANDSHAKES_MAX: usize = 1024;
/// How every TLS connection begins: a record of a handshake, and the major version.
const RECORD: [u8; 2] = [0x16, 3];
/// Until more of it is looked for.
const PEEK_AGAIN: Duration = Duration::from_millis(20);

/// What a process shows to others and asks of them. Clones share it.
#[derive(Clone, Debug)]
pub struct Tls {
    identity: Arc<Watched<Identity>>,
    handshakes: Arc<Semaphore>,
}

impl Tls {
    /// Reads the files and checks that others would accept what is in them.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(files: TlsFiles) -> Result<Self, FileError> {
        Ok(Self {
            identity: Arc::new(Watched::new(Identity(files), Instant::now())?),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        })
    }

    /// The server's side of a handshake.
    ///
    /// # Errors
    /// When the peer is none of the cluster, or does not say so in time.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<server::TlsStream<TcpStream>, HandshakeError> {
        let _turn = self.handshakes.try_acquire().map_err(|_| HandshakeError::TooMany)?;
        let config = Arc::clone(&self.identity.get(Instant::now()).server);
        in_time(TlsAcceptor::from(config).accept(stream)).await
    }

    /// The client's side of a handshake.
    ///
    /// # Errors
    /// When the peer is none of the cluster, or does not say so in time. That the peer does not accept us may come only with
    /// a later read.
    pub async fn connect(
        &self,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, HandshakeError> {
        let config = Arc::clone(&self.identity.get(Instant::now()).client);
        let name = peer_name().map_err(|error| HandshakeError::from(&error))?;
        in_time(TlsConnector::from(config).connect(name, stream)).await
    }
}

pub(crate) async fn in_time<T>(
    handshake: impl Future<Output = std::io::Result<T>>,
) -> Result<T, HandshakeError> {
    let done = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| HandshakeError::Late)?;
    done.map_err(|error| HandshakeError::from(&error))
}

/// Whether a connection begins with a TLS handshake. What the peer sends stays unread.
///
/// # Errors
/// When nothing comes in time.
pub async fn speaks_tls(stream: &TcpStream) -> Result<bool, HandshakeError> {
    let looking = async {
        loop {
            let mut there = [0; RECORD.len()];
            match stream.peek(&mut there).await {
                Ok(0) => return Err(HandshakeError::Failed("it closed the connection".into())),
                Ok(len) if len < RECORD.len() && RECORD.starts_with(&there[..len]) => {}
                Ok(_) => return Ok(there == RECORD),
                Err(error) => return Err(HandshakeError::from(&error)),
            }
            // A peek does not wait for more than there is.
            sleep(PEEK_AGAIN).await;
        }
    };
    timeout(HANDSHAKE_TIMEOUT, looking).await.map_err(|_| HandshakeError::Late)?
}

/// AES-GCM first: a core with AES instructions seals it several times as fast as ChaCha20-Poly1305.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

#[derive(Debug)]
struct Identity(TlsFiles);

/// Both sides' settings.
pub(crate) struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Source for Identity {
    type Value = Configs;
    const WHAT: &'static str = "the certificates of this process";

    fn files(&self) -> Vec<&Path> {
        vec![&self.0.ca, &self.0.cert, &self.0.key]
    }

    fn read(&self) -> Result<Configs, FileError> {
        let TlsFiles { ca, cert, key } = &self.0;
        let roots = Arc::new(authorities(ca)?);
        let (chain, key) = (certificates(cert)?, private_key(key)?);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|error| unusable(ca, error))?;
        let clients: Arc<dyn ClientCertVerifier> = Arc::new(NamedClients(clients));
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| unusable(ca, error))?;
        check_own(&chain, &*clients, &*servers)
            .map_err(|error| refused_everywhere(cert, &error))?;
        let server = server_config(clients, chain.clone(), key.clone_key());
        let client = client_config(servers, chain, key);
        let unfit = |error| unusable(&self.0.key, error);
        Ok(Configs {
            client: Arc::new(client.map_err(unfit)?),
            server: Arc::new(server.map_err(unfit)?),
        })
    }
}

/// Others will look at our certificate as we look at theirs.
fn check_own(
    chain: &[CertificateDer<'_>],
    clients: &dyn ClientCertVerifier,
    servers: &dyn ServerCertVerifier,
) -> Result<(), Error> {
    let Some((own, rest)) = chain.split_first() else { return Err(Error::NoCertificatesPresented) };
    let now = UnixTime::now();
    servers.verify_server_cert(own, rest, &peer_name()?, &[], now)?;
    clients.verify_client_cert(own, rest, now)?;
    Ok(())
}

fn refused_everywhere(cert: &Path, error: &Error) -> FileError {
    match HandshakeError::from(error) {
        HandshakeError::BadCertificate(why) => {
            unusable(cert, format!("every other process would refuse this certificate: {why}"))
        }
        other => unusable(cert, other),
    }
}

type Chain = Vec<CertificateDer<'static>>;
type Key = tokio_rustls::rustls::pki_types::PrivateKeyDer<'static>;

fn server_config(
    clients: Arc<dyn ClientCertVerifier>,
    chain: Chain,
    key: Key,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    // Connections are few and live long. Without resumption every one of them has shown its certificate itself.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    servers: Arc<WebPkiServerVerifier>,
    chain: Chain,
    key: Key,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
mod tests;
