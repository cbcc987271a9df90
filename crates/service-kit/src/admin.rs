//! The page for operators, on a port of its own: metrics, liveness, readiness, why calls go where they go, and
//! what is logged.

mod check;
mod connections;
mod pages;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, routing::get};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tower_http::timeout::TimeoutLayer;

pub use check::{check, page};

use crate::{
    config::{AdminConfig, AdminListen},
    telemetry::Telemetry,
};

/// A page is made from what is in memory; whoever waits longer is better told.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// More than a few who look at it, and few enough for whatever they leave open.
const LIMITS: connections::Limits = connections::Limits {
    connections: 64,
    duration: Duration::from_secs(10),
};
/// In bytes; more than any filter needs.
const LONGEST_REQUEST: usize = 4096;

/// Whether the process is ready, and why not.
type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;
type Channel = Box<dyn Fn() -> Value + Send + Sync>;

/// What the admin page shows; [`serve`](Self::serve) puts it on the network.
///
/// ```
/// use serde_json::json;
/// use service_kit::{Admin, Telemetry, config::AdminConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// let server = Admin::new(Telemetry::metrics_only()?)
///     .ready(|| Err("no instance of greeter yet".into()))
///     .channel("greeter", || json!({"state": "CONNECTING"}))
///     .serve(&AdminConfig::default())
///     .await?;
/// # drop(server);
/// # Ok(())
/// # }
/// ```
pub struct Admin {
    telemetry: Telemetry,
    ready: Vec<Ready>,
    channels: BTreeMap<String, Channel>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("channels", &self.channels.keys())
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// A page that shows the metrics, and says that the process is ready.
    pub fn new(telemetry: Telemetry) -> Self {
        Self {
            telemetry,
            ready: Vec::new(),
            channels: BTreeMap::new(),
        }
    }

    /// Ready only when `ready` says so too; its error says why not. Called at each request; it must not block.
    pub fn ready(mut self, ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.ready.push(Box::new(ready));
        self
    }

    /// Shows `explain` as `name` in `/debug/channels`. Called at each request; it must not block.
    pub fn channel(
        mut self,
        name: impl Into<String>,
        explain: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        self.channels.insert(name.into(), Box::new(explain));
        self
    }

    /// Listens where `config` says and logs where that is; `None` when it says `off`.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn serve(self, config: &AdminConfig) -> anyhow::Result<Option<AdminServer>> {
        let AdminListen::At(address) = config.listen else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("the admin page cannot listen on {address} (set admin.listen to another address, or to \"off\")")
        })?;
        let address = listener
            .local_addr()
            .context("the admin page has no address")?;
        let serving = connections::serve(listener, self.router(), LIMITS);
        let serving = AbortOnDropHandle::new(tokio::spawn(serving));
        tracing::info!(listen = %address, "admin page at http://{address}/");
        Ok(Some(AdminServer {
            address,
            _serving: serving,
        }))
    }

    fn router(self) -> Router {
        Router::new()
            .route("/", get(pages::index))
            .route("/metrics", get(pages::metrics))
            .route("/healthz", get(pages::healthz))
            .route("/readyz", get(pages::readyz))
            .route("/debug/channels", get(pages::channels))
            .route(
                "/admin/log-level",
                get(pages::log_level).put(pages::set_log_level),
            )
            .with_state(Arc::new(self))
            .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
            .layer(TimeoutLayer::with_status_code(
                StatusCode::SERVICE_UNAVAILABLE,
                REQUEST_TIMEOUT,
            ))
    }
}

/// An admin page on the network, for as long as this lives.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl AdminServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
