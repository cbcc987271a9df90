//! Client-side health checks (gRFC A17): what a server says of a service, over the connection that calls take.
//!
//! The protocol is grpc/grpc `doc/health-checking.md`, `/grpc.health.v1.Health/Watch`.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use registry::BackoffPolicy;

use crate::{
    status::Status,
    transport::{
        Connection,
        rpc::{Event, Head, Stopped, Subscription},
    },
};

const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// What is known of an endpoint's health. Before the first is told, nothing is: the endpoint is not READY yet (A17).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    Serving,
    /// And why not, in words.
    NotServing(Arc<str>),
}

/// A health check, the same for all endpoints of a channel.
#[derive(Debug)]
pub(crate) struct HealthCheck {
    service: String,
    watch: Subscription,
    told_unimplemented: AtomicBool,
}

impl HealthCheck {
    /// Asks for the health of `service`; the empty name asks for the server's as a whole.
    pub(crate) fn new(service: impl Into<String>, head: Head, backoff: BackoffPolicy) -> Self {
        let service = service.into();
        let request = HealthCheckRequest {
            service: service.clone(),
        };
        Self {
            watch: Subscription::new(head, WATCH, &request, backoff),
            service,
            told_unimplemented: AtomicBool::new(false),
        }
    }

    /// Watches the server at the other side of `connection`, and tells `on` each change of its health.
    ///
    /// A server without health checks is healthy for good. A watch that ends is made again with backoff, and the endpoint
    /// is not serving until the server says otherwise. When the connection takes no more calls, nothing more is told.
    ///
    /// It never ends. Dropping the future cancels the watch, and gives back the stream that it holds.
    pub(crate) async fn run(
        &self,
        connection: &Arc<Connection>,
        mut on: impl FnMut(Health),
    ) -> Infallible {
        let mut before = None;
        let mut tell = |health: Health| {
            if before.as_ref() != Some(&health) {
                before = Some(health.clone());
                on(health);
            }
        };
        let watch = self.watch.follow(connection, |event| {
            tell(match event {
                Event::Message(response) => self.read(&response),
                Event::Ended(status) => Health::NotServing(
                    format!(
                        "the health watch ended with {}: {}",
                        status.code.name(),
                        status.message
                    )
                    .into(),
                ),
            });
        });
        match watch.await {
            Stopped::Unimplemented(status) => {
                self.tell_unimplemented(connection.peer(), &status);
                tell(Health::Serving);
            }
            Stopped::Closed => {}
        }
        pending().await
    }

    fn read(&self, response: &HealthCheckResponse) -> Health {
        let says = match ServingStatus::try_from(response.status) {
            Ok(ServingStatus::Serving) => return Health::Serving,
            Ok(ServingStatus::NotServing) => "NOT_SERVING",
            Ok(ServingStatus::ServiceUnknown) => "SERVICE_UNKNOWN",
            Ok(ServingStatus::Unknown) | Err(_) => "UNKNOWN",
        };
        Health::NotServing(format!("the server says {says} of {:?}", self.service).into())
    }

    /// A17 wants it logged as an error; once for the channel, and not for each of its endpoints' connections.
    fn tell_unimplemented(&self, peer: &str, status: &Status) {
        if !self.told_unimplemented.swap(true, Ordering::Relaxed) {
            tracing::error!(
                peer,
                cause = %status.message,
                service = self.service,
                "health checks are configured and the server has none: it counts as healthy"
            );
        }
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

#[cfg(test)]
mod tests;
