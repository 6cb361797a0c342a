//! The router: requests in, tokens out.
//!
//! It renders, tokenises and hashes a prompt once, chooses a prefill and a decode worker from what it knows exactly about
//! every worker's cache and load, sends both legs at once, puts their tokens in order and turns them into text. It is
//! never on the way of the KV.
//!
//! ```text
//! http, grpc ─▶ app (admit, tokenise) ─▶ generation (work, attempt, order, usage) ─▶ worker_client ══ workers
//!      ▲                                     │ chooses                                                 │
//!      └──────────── answer (text) ◀─────────┘ cluster ◀── membership, follow ◀════════════════════════┘
//! ```
#![forbid(unsafe_code)]

mod answer;
mod app;
mod budget;
mod cluster;
mod error;
mod follow;
mod generation;
mod grpc;
mod http;
mod membership;
mod metrics;
mod model;
mod patience;
mod request;
mod worker_client;

pub use error::RouterError;
#[doc(hidden)]
pub use http::fuzz;

use app::App;
use cluster::Cluster;
use estafette_config::{RouterSettings, process_seed};
use estafette_security::{ApiKeys, PublicTls, Tls};
use estafette_telemetry::Exporter;
use estafette_types::SplitMix64;
use model::ServedModel;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Answers that run when the router is told to stop may take this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// When all is answered, connections may take this long to end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs a router until `stop` turns true and what runs has been answered.
///
/// # Errors
/// When the model file cannot be read, an address cannot be had, or a server breaks.
pub async fn run(
    settings: RouterSettings,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RouterError> {
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    let http_tls = settings.http_tls.clone();
    let http_tls = http_tls.map(|(cert, key)| PublicTls::load(cert, key)).transpose()?;
    let keys = settings.api_keys.clone().map(ApiKeys::load).transpose()?;
    let http = listen("HTTP", settings.http).await?;
    let grpc = listen("gRPC", settings.grpc).await?;
    let exporter = Exporter::install()?;
    let model = ServedModel::load(&settings)?;
    let mut rng = SplitMix64::new(settings.seed.unwrap_or_else(process_seed));
    let cluster = Arc::new(Cluster::new(&model, &settings, tls.clone(), rng.next_u64()));
    let app = Arc::new(App::new(model, cluster, exporter.clone(), &settings, keys, rng.next_u64()));
    tracing::info!(model = %app.model.name, http = %settings.http, grpc = %settings.grpc, "router");

    if tls.is_none() && !settings.grpc.ip().is_loopback() {
        tracing::warn!(grpc = %settings.grpc, "no --tls-ca: whoever reaches this address can join as a worker");
    }
    // Not `stop` itself: a server that hears of it first would look like one that ended by itself.
    let (close, closing) = watch::channel(false);
    let (leave, leaving) = watch::channel(false);
    let routes = http::routes(Arc::clone(&app));
    let limits = http::Limits::default();
    let mut http = tokio::spawn(http::serve(routes, http, http_tls, limits, closing.clone()));
    let mut grpc = tokio::spawn(grpc::serve(Arc::clone(&app), (grpc, tls), closing, leaving));
    let by_itself = || "it ended by itself".to_owned();
    let (what, reason) = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {
            close.send_replace(true);
            drain(&app, &leave, http, grpc).await;
            return Ok(());
        }
        ended = &mut http => ("HTTP", ended.map_or_else(|panic| panic.to_string(), |()| by_itself())),
        ended = &mut grpc => match ended {
            Ok(Err(error)) => return Err(error),
            Ok(Ok(())) => ("gRPC", by_itself()),
            Err(panic) => ("gRPC", panic.to_string()),
        },
        () = upkeep(&exporter) => return Ok(()),
    };
    Err(RouterError::Server { what, reason })
}

type Serving<T> = tokio::task::JoinHandle<T>;

/// Lets what runs be answered, then the workers go, then both servers end; each within its limit.
async fn drain(
    app: &App,
    leave: &watch::Sender<bool>,
    http: Serving<()>,
    grpc: Serving<Result<(), RouterError>>,
) {
    let (http_abort, grpc_abort) = (http.abort_handle(), grpc.abort_handle());
    if tokio::time::timeout(DRAIN_TIMEOUT, app.idle()).await.is_err() {
        tracing::warn!("stopped with answers unfinished");
    }
    leave.send_replace(true);
    let ended = async { tokio::join!(http, grpc) };
    if tokio::time::timeout(GOODBYE, ended).await.is_err() {
        tracing::info!("stopped with clients still connected");
        http_abort.abort();
        grpc_abort.abort();
    }
}

async fn upkeep(exporter: &Exporter) {
    let mut tick = tokio::time::interval(exporter.upkeep_interval());
    loop {
        tick.tick().await;
        exporter.upkeep();
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, RouterError> {
    TcpListener::bind(address).await.map_err(|source| RouterError::Listen { what, address, source })
}
