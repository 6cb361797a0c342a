//! TLS towards clients: the server shows a certificate, clients show none.

use crate::pem::{certificates, private_key, unusable};
use crate::tls::in_time;
use crate::watched::{Source, Watched};
use crate::{FileError, HandshakeError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::{TlsAcceptor, server};

/// A server's certificate. Clones share it.
#[derive(Clone, Debug)]
pub struct PublicTls(Arc<Watched<Files>>);

impl PublicTls {
    /// Reads the certificate chain in `cert` and its key in `key`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(cert: PathBuf, key: PathBuf) -> Result<Self, FileError> {
        Ok(Self(Arc::new(Watched::new(Files { cert, key }, Instant::now())?)))
    }

    /// The server's side of a handshake.
    ///
    /// # Errors
    /// When the client speaks no TLS, or does not finish in time.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<server::TlsStream<TcpStream>, HandshakeError> {
        in_time(TlsAcceptor::from(self.0.get(Instant::now())).accept(stream)).await
    }
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Source for Files {
    type Value = ServerConfig;
    const WHAT: &'static str = "the certificates of the HTTP API";

    fn files(&self) -> Vec<&Path> {
        vec![&self.cert, &self.key]
    }

    fn read(&self) -> Result<ServerConfig, FileError> {
        let (chain, key) = (certificates(&self.cert)?, private_key(&self.key)?);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.cert, error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&self.key, error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
