//! Where a worker listens and whom it joins.

use crate::engine::{EngineArgs, EngineSettings, Transport};
use crate::router::model_path;
use crate::{ConfigErrors, Problems};
use clap::Args;
use estafette_types::{WorkerId, parse_duration};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

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
    /// gRPC address of the router to join, host:port.
    #[arg(long, default_value = "127.0.0.1:8001")]
    pub router: String,
    /// How KV blocks travel.
    #[arg(long, value_enum, default_value = "auto")]
    pub transport: Transport,
    /// How long running sequences may take to finish after the first signal.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
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
    /// host:port of the router's gRPC services.
    pub router: String,
    /// How KV blocks travel.
    pub transport: Transport,
    /// Grace for running sequences.
    pub drain_timeout: Duration,
    /// How the engine computes.
    pub engine: EngineSettings,
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
        problems.check(self.router.rsplit_once(':').is_some(), "--router", || {
            format!("`{}` is not host:port", self.router)
        });
        let id_ok = self.id.as_ref().is_none_or(|id| !id.is_empty() && id.len() <= 128);
        problems.check(id_ok, "--id", || "must have 1 to 128 bytes".into());
        let settings = model.map(|model| WorkerSettings {
            model,
            id: self.id.map(WorkerId),
            listen: self.listen,
            kv_listen: self.kv_listen,
            router: self.router,
            transport: self.transport,
            drain_timeout: self.drain_timeout,
            engine,
        });
        problems.finish(settings)
    }
}
