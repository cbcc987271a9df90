//! `interop-server`: tonic's server for gRPC's interoperability cases.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::Parser;
use interop::server::{TestService, serve};
use tokio::net::TcpListener;

/// Serves grpc.testing.TestService until it is killed. It says `listening on ADDRESS` when it can be called.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { listen } = Args::parse();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on {}", listener.local_addr()?);
    serve(listener, TestService::default()).await
}
