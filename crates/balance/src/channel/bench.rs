//! What the benchmarks measure by itself; no part of what this crate promises.

use std::sync::Arc;

use tokio::sync::watch;

use tokio::time::Instant;

use super::Channel;
use crate::{
    load::InFlight,
    policy::{CallInfo, Pick},
};

impl Channel {
    /// Picks as a call does that begins `now`, and gives its place in the count of calls in flight; `None` where a call
    /// would pick again, wait or fail.
    #[doc(hidden)]
    pub fn pick(&self, call: &CallInfo<'_>, now: Instant) -> Option<impl Sized + use<>> {
        let published = self.inner.shared.published.load();
        match published.picker.pick(call) {
            Pick::Ready(endpoint) if !call.avoids(endpoint) => {
                Some(InFlight::count(Arc::clone(endpoint), now))
            }
            Pick::Connect(endpoint) => {
                endpoint.subchannel().connect();
                None
            }
            _ => None,
        }
    }

    /// Changes whenever the picker was rebuilt.
    #[doc(hidden)]
    pub fn rebuilds(&self) -> watch::Receiver<()> {
        self.inner.shared.generation.subscribe()
    }
}
