//! How commands reach a running router.

use anyhow::{Result, anyhow};
use clap::Args;
use estafette_config::TlsArgs;
use estafette_security::{Tls, causes, connect, reason};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the router is, and what it wants to see.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// The router's gRPC address.
    #[arg(long, default_value = "127.0.0.1:8001")]
    router: SocketAddr,
    /// A file with the API key, when the router asks for one. Not the key itself: command lines can be seen by others.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// Certificates, when the router asks for them.
    #[command(flatten)]
    tls: TlsArgs,
}

impl Access {
    /// A connection on which every call may take `timeout`.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<Channel> {
        let router = self.router;
        let tls = self.tls.clone().files()?.map(Tls::load).transpose()?;
        let endpoint = Endpoint::from_shared(format!("http://{router}"))?
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT);
        connect(&endpoint, tls.as_ref())
            .await
            .map_err(|error| anyhow!("cannot reach a router at {router}: {}", causes(&error)))
    }

    /// `message` with the key, if there is one.
    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        if let Some(file) = &self.api_key_file {
            request.metadata_mut().insert("authorization", bearer(file)?);
        }
        Ok(request)
    }

    /// Why the router does not do it.
    pub(crate) fn refusal(&self, status: &Status) -> anyhow::Error {
        anyhow!("the router at {} says: {}", self.router, reason(status))
    }
}

/// The header that shows the key in `file`. Nothing that is said about a bad file shows what is in it.
fn bearer(file: &Path) -> Result<AsciiMetadataValue> {
    let key = std::fs::read_to_string(file)
        .map_err(|error| anyhow!("cannot read {}: {error}", file.display()))?;
    let header = AsciiMetadataValue::try_from(format!("Bearer {}", key.trim()));
    let mut header = header.map_err(|_| anyhow!("{} holds no API key", file.display()))?;
    header.set_sensitive(true);
    Ok(header)
}
