//! The gRPC server that every binary serves with: its settings and its layers, in one place.

mod accept;
mod admission;
mod authorize;
mod calls;
mod connection;
mod cut_off;
mod frames;
mod messages;
mod methods;
mod notice;
mod observe;
mod panic;
mod refused;
mod served;
mod status;
mod tls;
mod traces;
mod unread;

use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{service::Routes, transport};
use tower::util::MapResponseLayer;
use tower_http::{
    catch_panic::CatchPanicLayer,
    trace::{DefaultOnFailure, TraceLayer},
};
use tracing::Level;

use crate::config::{LimitsConfig, ServerConfig, Tls, as_usize};

pub(crate) use admission::Admission;
use authorize::Authorize;
pub use authorize::Caller;
pub(crate) use calls::Calls;
use connection::Lifetime;
use cut_off::CutOff;
pub(crate) use messages::MessageMemory;
use messages::Messages;
use observe::Observe;
pub(crate) use served::check_rules;
use tls::Acceptor;
pub(crate) use traces::Traces;
use unread::Unread;

const MIB: u32 = 1024 * 1024;
/// What one call may have under way unread: enough for a fast network, little enough for a thousand slow readers.
const STREAM_WINDOW: u32 = MIB;
/// What all calls of one connection may have under way together, so that one slow reader does not stall the others. Half of it is
/// also what h2 allows small DATA frames to cost, which long streams of short messages are made of.
const CONNECTION_WINDOW: u32 = 16 * MIB;

/// What is served, to whom, and what is seen of it.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) listener: TcpListener,
    pub(crate) routes: Routes,
    pub(crate) calls: Calls,
    pub(crate) traces: Traces,
    pub(crate) admission: Admission,
    pub(crate) memory: MessageMemory,
    pub(crate) config: ServerConfig,
    /// Without it, whoever connects is served, and in clear.
    pub(crate) tls: Option<Tls>,
}

impl Serving {
    /// Serves until `stop`; then takes no new connection, sends GOAWAY on each, and ends when the last has closed.
    pub(crate) async fn until(self, stop: CancellationToken) -> anyhow::Result<()> {
        let limits = &self.config.limits;
        let age = limits.connection_age.map(|age| about(age, fastrand::f64()));
        let lifetime = Lifetime {
            handshake: limits.handshake_timeout,
            age,
            // As long as all calls have when the server ends.
            drain_limit: self.config.drain_limit,
        };
        let server = settings(limits, age)
            // The first is the outermost: what the others log belongs to the call's trace.
            .layer(Observe::new(self.calls.clone(), self.traces))
            .layer(
                TraceLayer::new_for_grpc().on_failure(DefaultOnFailure::new().level(Level::DEBUG)),
            )
            .layer(CutOff::new(self.calls.notice()))
            .layer(MapResponseLayer::new(status::settled))
            .layer(CatchPanicLayer::custom(panic::internal))
            .layer(Unread)
            .layer(Messages::new(self.memory));
        let sockets = accept::sockets(self.listener, self.admission);
        let stopped = stop.cancelled_owned();
        // Two servers, so that what is in clear pays nothing for what is not.
        let outcome = if let Some(tls) = self.tls {
            let _looking = AbortOnDropHandle::new(tokio::spawn(tls.files.clone().look_on()));
            let most = as_usize(limits.connections);
            let connections = accept::secured(sockets, lifetime, Acceptor::new(&tls), most);
            let mut server = server.layer(Authorize::new(&tls));
            let router = server.add_routes(self.routes);
            let serving = router.serve_with_incoming_shutdown(connections, stopped);
            serving.await
        } else {
            let connections = accept::connections(sockets, lifetime);
            let mut server = server;
            let router = server.add_routes(self.routes);
            let serving = router.serve_with_incoming_shutdown(connections, stopped);
            serving.await
        };
        outcome.context("the gRPC server has ended")
    }
}

/// Adaptive windows stay off: they ping for each window, which peers count as abuse. tonic is not told of a grace for aged connections:
/// with one it sends them no GOAWAY.
fn settings(limits: &LimitsConfig, age: Option<Duration>) -> transport::Server {
    let server = transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_adaptive_window(Some(false))
        .http2_max_header_list_size(limits.header_list_size.get())
        .max_concurrent_streams(limits.concurrent_streams.get())
        .http2_max_pending_accept_reset_streams(Some(as_usize(limits.pending_resets)))
        .http2_max_local_error_reset_streams(Some(as_usize(limits.error_resets)))
        .http2_keepalive_interval(Some(limits.keep_alive_interval))
        .http2_keepalive_timeout(Some(limits.keep_alive_timeout));
    match age {
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}

/// A tenth more or less, by `chance` from 0 to 1: servers that have started together do not send their callers away together.
fn about(age: Duration, chance: f64) -> Duration {
    age.mul_f64(0.9 + 0.2 * chance)
}

#[cfg(test)]
mod tests {
    use super::{Duration, about};

    #[test]
    fn an_age_is_drawn_from_a_tenth_less_to_a_tenth_more() {
        let age = Duration::from_secs(100);
        let drawn = [0.0, 0.5, 1.0].map(|chance| about(age, chance).as_secs());
        assert_eq!(drawn, [90, 100, 110]);
    }
}
