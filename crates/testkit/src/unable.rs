//! A server that cannot: it listens, and every call ends with `UNAVAILABLE`, or none ends.

use std::future::pending;

use anyhow::{Context, Result};
use axum::{Router, body::Body, response::Response};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Status,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

/// A running server of that kind, for callers who are to try another. Dropped, it is gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// let unable = testkit::Unable::start().await?;
/// let target = format!("static:///{},127.0.0.1:50051", unable.address());
/// # drop(target); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Unable {
    address: String,
    _serving: JoinSet<()>,
}

impl Unable {
    /// Starts one on a free port of this machine.
    pub async fn start() -> Result<Self> {
        let refuse = async || Status::unavailable("not now").into_http::<Body>();
        Self::serve(Router::new().fallback(refuse)).await
    }

    /// Starts one that is there, and answers no call: its connections live on, since it answers PINGs.
    pub async fn hanging() -> Result<Self> {
        Self::serve(Router::new().fallback(pending::<Response>)).await
    }

    async fn serve(calls: Router) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context("no port for a server that cannot")?;
        let address = listener.local_addr()?.to_string();
        let server = Server::builder().add_routes(Routes::from(calls));
        let mut serving = JoinSet::new();
        serving.spawn(async {
            let ended = server.serve_with_incoming(TcpIncoming::from(listener));
            ended.await.expect("it serves until it is dropped");
        });
        Ok(Self {
            address,
            _serving: serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }
}
