//! Where a worker listens and whom it joins.

use crate::engine::{EngineArgs, EngineSettings, Transport};
use crate::router::model_path;
use crate::tls::TlsArgs;
use crate::{ConfigErrors, Problems};
use clap::Args;
use estafette_types::{TlsFiles, WorkerId, parse_duration};
use std::net::{Ipv6Addr, SocketAddr};
use std::{path::PathBuf, time::Duration};

/// Flags of `estafette prefill-worker` and `estafette decode-worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// The model: a GGUF file. The default model of `make model` when left out.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Name of this worker, unique in the cluster. Drawn when left out.
    #[arg(long)]
    pub id: Option<String>,
    /// Address of the gRPC services; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Address at which KV blocks arrive (decode workers); port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub kv_listen: SocketAddr,
    /// Host under which the router and other workers reach this one; needed when it listens on all addresses.
    #[arg(long)]
    pub advertise: Option<String>,
    /// gRPC address of the router to join, host:port.
    #[arg(long, default_value = "127.0.0.1:8001")]
    pub router: String,
    /// How KV blocks travel.
    #[arg(long, value_enum, default_value = "auto")]
    pub transport: Transport,
    /// How long running sequences may take to finish after the first signal.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// Certificates between the processes.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// How the engine computes.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Checked [`WorkerArgs`].
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// An existing file.
    pub model: PathBuf,
    /// `None`: draw one.
    pub id: Option<WorkerId>,
    /// Of the gRPC services.
    pub listen: SocketAddr,
    /// Of the KV receiver.
    pub kv_listen: SocketAddr,
    /// Host under which others reach it; `None`: the address on which it listens.
    pub advertise: Option<String>,
    /// host:port of the router's gRPC services.
    pub router: String,
    /// How KV blocks travel.
    pub transport: Transport,
    /// Grace for running sequences.
    pub drain_timeout: Duration,
    /// Certificates between the processes; `None`: they talk without.
    pub tls: Option<TlsFiles>,
    /// How the engine computes.
    pub engine: EngineSettings,
}

/// host:port at which others reach what listens on `address`, under the host `advertise` if there is one.
pub fn advertised(advertise: Option<&str>, address: SocketAddr) -> String {
    let Some(host) = advertise else { return address.to_string() };
    let port = address.port();
    if host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl WorkerArgs {
    /// Checks every flag.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(self) -> Result<WorkerSettings, ConfigErrors> {
        let mut problems = Problems::default();
        let model = problems.take(model_path(self.model));
        let engine = self.engine.check(&mut problems);
        let tls = self.tls.check(&mut problems);
        problems.check(self.router.rsplit_once(':').is_some(), "--router", || {
            format!("`{}` is not host:port", self.router)
        });
        for (flag, address) in [("--listen", self.listen), ("--kv-listen", self.kv_listen)] {
            let reachable = self.advertise.is_some() || !address.ip().is_unspecified();
            problems.check(reachable, flag, || {
                format!(
                    "nobody can connect to {}: say with --advertise by which host",
                    address.ip()
                )
            });
        }
        let host_ok = self.advertise.as_ref().is_none_or(|host| !host.is_empty());
        problems.check(host_ok, "--advertise", || "must not be empty".into());
        let id_ok = self.id.as_ref().is_none_or(|id| !id.is_empty() && id.len() <= 128);
        problems.check(id_ok, "--id", || "must have 1 to 128 bytes".into());
        let settings = model.map(|model| WorkerSettings {
            model,
            id: self.id.map(WorkerId),
            listen: self.listen,
            kv_listen: self.kv_listen,
            advertise: self.advertise,
            router: self.router,
            transport: self.transport,
            drain_timeout: self.drain_timeout,
            tls,
            engine,
        });
        problems.finish(settings)
    }
}
