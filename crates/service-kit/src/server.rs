//! The gRPC server that every binary serves with: its settings and its layers, in one place.

mod accept;
mod calls;
mod methods;
mod observe;
mod panic;
mod status;
mod traces;

use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport};
use tower::util::MapResponseLayer;
use tower_http::{
    catch_panic::CatchPanicLayer,
    trace::{DefaultOnFailure, TraceLayer},
};
use tracing::Level;

pub(crate) use calls::Calls;
use observe::Observe;
pub(crate) use traces::Traces;

const MIB: u32 = 1024 * 1024;
/// What one call may have under way unread: enough for a fast network, little enough for a thousand slow readers.
const STREAM_WINDOW: u32 = MIB;
/// What all calls of one connection may have under way together, so that one slow reader does not stall the others.
const CONNECTION_WINDOW: u32 = 16 * MIB;
/// Calls under way on one connection; a caller with more waits or opens another.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// A caller that is silent for this long is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `routes` until `stop`; then takes no new connection, sends GOAWAY on each, and ends when the last has closed.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Routes,
    calls: Calls,
    traces: Traces,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    settings()
        // The first is the outermost: what the others log belongs to the call's trace.
        .layer(Observe::new(calls, traces))
        .layer(TraceLayer::new_for_grpc().on_failure(DefaultOnFailure::new().level(Level::DEBUG)))
        .layer(MapResponseLayer::new(status::settled))
        .layer(CatchPanicLayer::custom(panic::internal))
        .add_routes(routes)
        .serve_with_incoming_shutdown(accept::connections(listener), stop.cancelled_owned())
        .await
        .context("the gRPC server has ended")
}

/// Adaptive windows stay off: they ping for each window, which peers count as abuse.
fn settings() -> transport::Server {
    transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_adaptive_window(Some(false))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}
