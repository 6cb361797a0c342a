//! Where the router listens and what it serves.

use crate::environment::{DEFAULT_MODEL_FILE, model_cache_dir};
use crate::{ConfigError, ConfigErrors, Problems};
use clap::Args;
use estafette_types::{ByteSize, parse_duration};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Flags of `estafette router`.
#[derive(Clone, Debug, Args)]
pub struct RouterArgs {
    /// The model that the workers serve: a GGUF file, read for its tokenizer and chat template.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Name under which clients ask for the model; the file's name when left out.
    #[arg(long)]
    pub served_model_name: Option<String>,
    /// Address of the OpenAI-compatible HTTP API.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub http: SocketAddr,
    /// Address of the gRPC API, which workers join too.
    #[arg(long, default_value = "127.0.0.1:8001")]
    pub grpc: SocketAddr,
    /// The largest request body.
    #[arg(long, default_value = "4MiB")]
    pub max_body: ByteSize,
    /// The most requests in work at once; beyond that clients get 429.
    #[arg(long, default_value_t = 1024)]
    pub max_concurrent_requests: usize,
    /// The longest a request may take.
    #[arg(long, default_value = "10min", value_parser = parse_duration)]
    pub request_timeout: Duration,
    /// Seed of ids, ties and of requests that bring no seed. Drawn at start when left out.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Checked [`RouterArgs`].
#[derive(Clone, Debug)]
pub struct RouterSettings {
    /// An existing file.
    pub model: PathBuf,
    /// `None`: the file's name.
    pub served_model_name: Option<String>,
    /// Of the HTTP API.
    pub http: SocketAddr,
    /// Of the gRPC API.
    pub grpc: SocketAddr,
    /// Bytes of the largest request body.
    pub max_body: ByteSize,
    /// At least 1.
    pub max_concurrent_requests: usize,
    /// The longest a request may take.
    pub request_timeout: Duration,
    /// `None`: draw one.
    pub seed: Option<u64>,
}

impl RouterArgs {
    /// Checks every flag.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(self) -> Result<RouterSettings, ConfigErrors> {
        let mut problems = Problems::default();
        let model = problems.take(model_path(self.model));
        problems.check(self.max_concurrent_requests > 0, "--max-concurrent-requests", || {
            "must be at least 1".into()
        });
        problems.check(self.http != self.grpc || self.http.port() == 0, "--grpc", || {
            format!("{} is the address of --http too", self.grpc)
        });
        let settings = model.map(|model| RouterSettings {
            model,
            served_model_name: self.served_model_name,
            http: self.http,
            grpc: self.grpc,
            max_body: self.max_body,
            max_concurrent_requests: self.max_concurrent_requests,
            request_timeout: self.request_timeout,
            seed: self.seed,
        });
        problems.finish(settings)
    }
}

/// The file to serve: the one named, else the default model in the cache.
///
/// # Errors
/// When there is no such file.
pub fn model_path(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        let missing = || ConfigError::Invalid {
            flag: "--model",
            problem: format!("there is no file {}", path.display()),
        };
        return if path.is_file() { Ok(path.clone()) } else { Err(missing()) };
    }
    let path = model_cache_dir()?.join(DEFAULT_MODEL_FILE);
    if path.is_file() {
        Ok(path)
    } else {
        Err(ConfigError::NoModel { looked_at: path.display().to_string() })
    }
}
