//! Where the router listens and what it serves.

use crate::environment::{DEFAULT_MODEL_FILE, model_cache_dir};
use crate::tls::{TlsArgs, check_file};
use crate::{ConfigError, ConfigErrors, Problems};
use clap::{Args, ValueEnum};
use estafette_types::{ByteSize, TlsFiles, parse_duration};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The order of requests that wait for a worker with room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueueOrder {
    /// As they came.
    Fcfs,
    /// Those with few tokens to compute earlier, by at most 15 seconds.
    ShortestWork,
}

/// Flags about which requests are let in.
#[derive(Clone, Debug, Args)]
pub struct Admission {
    /// The most requests in work at once; beyond that clients get 429.
    #[arg(long, default_value_t = 1024)]
    pub max_concurrent_requests: usize,
    /// The most of them that wait while every worker's queue is full; beyond that clients get 429. Answers that have
    /// begun, and are sent again or are later ones of several, come on top.
    #[arg(long, default_value_t = 512)]
    pub max_waiting_requests: usize,
    /// The longest they wait; then clients get 429.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub max_wait: Duration,
    /// In which order they are sent.
    #[arg(long, value_enum, default_value = "fcfs")]
    pub queue_order: QueueOrder,
    /// The longest a request may take.
    #[arg(long, default_value = "10min", value_parser = parse_duration)]
    pub request_timeout: Duration,
    /// How many answers may be repaired in a minute when workers fail, besides one in five of those that start. When that is
    /// spent, clients get the workers' error.
    #[arg(long, default_value_t = 256)]
    pub retry_budget: u32,
}

/// Workers speak each second, and may be late once.
const WORKER_TIMEOUT_MIN: Duration = Duration::from_secs(2);

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
    /// A worker of which nothing is heard for so long is taken for lost: what it was doing is done elsewhere, and it gets
    /// nothing new until it speaks again. At least 2s, since workers speak each second.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub worker_timeout: Duration,
    /// How many requests are let in, and how long they may take.
    #[command(flatten)]
    pub admission: Admission,
    /// Certificates between the processes. With them the gRPC API, too, is only for clients that show one.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Certificate of the HTTP API in PEM form; with it the API speaks HTTPS.
    #[arg(long)]
    pub http_tls_cert: Option<PathBuf>,
    /// Its private key in PEM form.
    #[arg(long)]
    pub http_tls_key: Option<PathBuf>,
    /// Keys of clients, as SHA-256 in hex, one a line: what `printf %s KEY | sha256sum` prints. Without it everybody is
    /// let in.
    #[arg(long)]
    pub api_keys: Option<PathBuf>,
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
    /// A worker that is silent for longer is taken for lost; at least 2 s.
    pub worker_timeout: Duration,
    /// How many requests are let in, at least 1, and how long they may take.
    pub admission: Admission,
    /// Certificates between the processes; `None`: they talk without.
    pub tls: Option<TlsFiles>,
    /// Certificate and key of the HTTP API; `None`: it speaks plain HTTP.
    pub http_tls: Option<(PathBuf, PathBuf)>,
    /// Hashes of the clients' keys; `None`: everybody is let in.
    pub api_keys: Option<PathBuf>,
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
        problems.check(
            self.admission.max_concurrent_requests > 0,
            "--max-concurrent-requests",
            || "must be at least 1".into(),
        );
        problems.check(self.worker_timeout >= WORKER_TIMEOUT_MIN, "--worker-timeout", || {
            format!("must be at least {} s", WORKER_TIMEOUT_MIN.as_secs())
        });
        problems.check(self.http != self.grpc || self.http.port() == 0, "--grpc", || {
            format!("{} is the address of --http too", self.grpc)
        });
        let tls = self.tls.check(&mut problems);
        let http_tls = http_tls(self.http_tls_cert, self.http_tls_key, &mut problems);
        if let Some(path) = &self.api_keys {
            check_file(&mut problems, "--api-keys", path);
        }
        let settings = model.map(|model| RouterSettings {
            model,
            served_model_name: self.served_model_name,
            http: self.http,
            grpc: self.grpc,
            max_body: self.max_body,
            worker_timeout: self.worker_timeout,
            admission: self.admission,
            tls,
            http_tls,
            api_keys: self.api_keys,
            seed: self.seed,
        });
        problems.finish(settings)
    }
}

/// Both or neither.
fn http_tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    problems: &mut Problems,
) -> Option<(PathBuf, PathBuf)> {
    let named = [("--http-tls-cert", cert), ("--http-tls-key", key)];
    if named.iter().all(|(_, path)| path.is_none()) {
        return None;
    }
    let [cert, key] = named.map(|(flag, path)| {
        problems.check(path.is_some(), flag, || {
            "is missing: --http-tls-cert and --http-tls-key are given together".into()
        });
        path.inspect(|path| check_file(problems, flag, path))
    });
    Some((cert?, key?))
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
