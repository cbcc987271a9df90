//! What a call would be given, without a call.

use std::sync::Arc;

use http::HeaderMap;
use registry::{Freshness, Instance};
use tokio::time::Instant;

use super::{Channel, pick::Unpicked};
use crate::{
    load::InFlight,
    options::HashKey,
    policy::{CallInfo, Status},
    subchannel::ConnectivityState,
};

impl Channel {
    /// Chooses as for a call to the method at `path` (`/package.Service/Method`) that begins now: by the service config, what
    /// goes around the policy, and the policy, over connections that are made for it. Nothing is sent. To the policy it is a
    /// call that began and was given up at once, which says nothing of the instance.
    ///
    /// Waits while the channel is resolving or connecting, as a call does. Cancellation safe; the caller sets a bound.
    ///
    /// # Errors
    /// What the call would fail with when no instance can be reached.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = balance::Channel::builder("static:///127.0.0.1:1").build()?;
    /// let refused = channel.choose("/helloworld.Greeter/SayHello", None).await;
    /// assert_eq!(refused.unwrap_err().code(), balance::Code::Unavailable);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn choose(
        &self,
        path: &str,
        hash_key: Option<HashKey>,
    ) -> Result<Arc<Instance>, Status> {
        let shared = &self.inner.shared;
        let headers = HeaderMap::new();
        shared.configured(&headers).await;
        let call = CallInfo {
            hash_key,
            ..CallInfo::new(path, &headers)
        };
        match shared.pick(&call, false).await {
            Ok(picked) => {
                drop(InFlight::count(
                    Arc::clone(&picked.endpoint),
                    Instant::now(),
                ));
                Ok(picked.endpoint.instance())
            }
            Err(Unpicked::Failed(status) | Unpicked::Dropped(status)) => Err(status),
        }
    }
    /// Waits until what the registry says is known to be current, no endpoint is being connected, and calls go by what has come
    /// of it: the first to be ready would be given all calls until then. For who has [chosen](Self::choose) once, so that the endpoints are known; what is connected for
    /// want of a call is not waited for. Cancellation safe; the caller sets a bound.
    pub async fn settled(&self) {
        let shared = &self.inner.shared;
        let mut generation = shared.generation.subscribe();
        // An error means that the channel is gone, which this one keeps.
        while self.is_settling() && generation.changed().await.is_ok() {}
        // A picker that was being made meanwhile may know less. The one after it was begun later.
        for _ in 0..2 {
            generation.mark_unchanged();
            shared.called.notify_one();
            if generation.changed().await.is_err() {
                return;
            }
        }
    }

    fn is_settling(&self) -> bool {
        let published = self.inner.shared.published.load();
        let mut endpoints = published.endpoints.iter();
        published.freshness != Freshness::Live
            || endpoints.any(|endpoint| {
                endpoint.subchannel().state().connectivity == ConnectivityState::Connecting
            })
    }
}
