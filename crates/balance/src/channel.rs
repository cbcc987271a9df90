//! Where all of it meets: the channel that callers hold, and the task that keeps its endpoints.

mod admission;
mod attempt;
mod attempts;
#[cfg(feature = "bench")]
mod bench;
mod builder;
mod call;
mod choose;
mod conduct;
mod config_source;
mod driver;
mod ejection;
mod entries;
mod exchange;
mod explain;
mod head;
mod idleness;
mod observed;
mod outcome;
mod pace;
mod pick;
mod response_future;
mod stats;

use std::{
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use registry::{Cause, Freshness, Snapshot};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tower::Service;

use admission::Admission;
pub(crate) use admission::Admitted;
pub use builder::{BuildError, Builder};
use config_source::Provenance;
use ejection::Ejected;
pub use explain::{
    ConnectionExplanation, EjectionExplanation, EndpointExplanation, Explanation, LeftOut,
    RefusedServiceConfig,
};
pub use response_future::ResponseFuture;
use stats::Stats;

use crate::{
    endpoint::Endpoint,
    policy::{Barrier, Picker},
    retry::Throttle,
    service_config::{MethodConfig, ServiceConfig},
    single_answers::SingleAnswers,
    subchannel::ConnectivityState,
    target::Target,
    telemetry::Telemetry,
    trace::CallTracing,
    transport::{ConnectOptions, GRPC_TIMEOUT, ResponseBody, Timeout, Timers, rpc},
};

/// A gRPC channel to all instances of a service: `GreeterClient::new(channel)` is all that a tonic user writes.
///
/// A [`tower::Service`] of `http::Request`s that is always ready and never fails: whatever ends a call is told by the
/// response's gRPC status. Cheap to clone; the last clone to go ends its task and its idle connections, and calls in
/// flight end by themselves.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    _driver: AbortOnDropHandle<()>,
}

/// What calls and the driver share.
struct Shared {
    target: Target,
    /// What every call says.
    head: rpc::Head,
    /// Where that was read, and why another is not in force.
    provenance: Arc<ArcSwap<Provenance>>,
    /// Whether it is known which service config is the first.
    has_config: AtomicBool,
    stats: Arc<Stats>,
    telemetry: Telemetry,
    /// Which methods can be committed to late.
    single_answers: SingleAnswers,
    /// How calls are traced, where that was asked for.
    tracing: Option<CallTracing>,
    connect: ConnectOptions,
    admission: Arc<Admission>,
    /// Of the calls.
    timers: Timers,
    published: ArcSwap<Published>,
    /// Changes whenever something was published.
    generation: watch::Sender<()>,
    state: watch::Sender<ConnectivityState>,
    /// A call is waiting.
    called: Notify,
    /// The driver has ended.
    closed: CancellationToken,
}

impl Shared {
    fn is_configured(&self) -> bool {
        self.has_config.load(Ordering::Acquire)
    }

    /// Waits until it is known which service config calls go by: for about a second at most, and no longer than the caller
    /// does. Cancellation safe.
    async fn configured(&self, headers: &HeaderMap) {
        let mut generation = self.generation.subscribe();
        let known = async {
            // An error means that the channel is gone, which who waits here does not outlive.
            while !self.is_configured() && generation.changed().await.is_ok() {}
        };
        let patience = headers.get(GRPC_TIMEOUT).and_then(Timeout::read);
        // Who has no patience left is told so by the call itself.
        let _ = timeout(patience.unwrap_or(Duration::MAX), known).await;
    }

    /// Tells the channel's state; a channel that is closing has but one.
    fn now_is(&self, state: ConnectivityState) {
        self.state.send_if_modified(|before| {
            // Asked in here, so that nothing is told after the close.
            let state = if self.admission.is_closing() {
                ConnectivityState::Shutdown
            } else {
                state
            };
            let changed = *before != state;
            if changed {
                tracing::debug!(channel = %self.target, from = %before, to = %state, "channel state");
            }
            *before = state;
            changed
        });
    }
}

/// The service config that calls go by.
#[derive(Default)]
struct InForce {
    config: ServiceConfig,
    /// The tokens that its `retryThrottling` counts.
    throttle: Option<Arc<Throttle>>,
}

impl InForce {
    /// Another config after `before`, whose tokens it goes on with.
    fn after(before: &Self, config: ServiceConfig) -> Self {
        let throttle = config
            .retry_throttling
            .map(|settings| match &before.throttle {
                // The same, so that calls that have begun count as well.
                Some(throttle) if throttle.has(settings) => Arc::clone(throttle),
                Some(throttle) => Arc::new(throttle.with_settings(settings)),
                None => Arc::new(Throttle::new(settings)),
            });
        Self { config, throttle }
    }

    /// What the service config says of a method, and the tokens that its attempts cost.
    fn rules(&self, path: &str) -> (Option<Arc<MethodConfig>>, Option<Arc<Throttle>>) {
        let method = self.config.method(path);
        let repeats = method.is_some_and(|method| method.repeats());
        let throttle = self.throttle.as_ref().filter(|_| repeats);
        (method.cloned(), throttle.cloned())
    }
}

/// What the driver has made of the endpoints and of the service config.
struct Published {
    in_force: Arc<InForce>,
    picker: Arc<dyn Picker>,
    /// By whose name the picker picks.
    policy: Cow<'static, str>,
    endpoints: Arc<[Arc<Endpoint>]>,
    /// Who keeps calls from some of the endpoints.
    barriers: Vec<Barrier>,
    /// What is special about some endpoints, by serial.
    remarks: HashMap<u64, Remark>,
    freshness: Freshness,
    /// What the registry lists, once that is known.
    listed: Option<Snapshot>,
    /// All endpoints are used because too few are healthy.
    panicking: bool,
}

/// What is special about an endpoint.
struct Remark {
    /// In words: why it is not picked, or why it still is.
    why: Arc<str>,
    ejected: Option<Ejected>,
    /// It takes no calls by the registry, and serves on.
    held: bool,
    /// Calls are kept from it.
    shunned: bool,
}

/// A promise to users: what a generated client asks of a channel.
const _: fn() = || {
    fn holds<T: Clone + Send + Sync + Service<http::Request<ResponseBody>>>() {}
    holds::<Channel>();
};

impl Channel {
    /// Begins a channel to `target`: `greeter`, `etcd:///greeter`, `static:///10.0.0.1:1,10.0.0.2:1`.
    pub fn builder(target: impl Into<String>) -> Builder {
        Builder::new(target.into())
    }

    /// What the channel goes to.
    pub fn target(&self) -> &Target {
        &self.inner.shared.target
    }

    /// The channel's connectivity state.
    pub fn state(&self) -> ConnectivityState {
        *self.inner.shared.state.borrow()
    }

    /// Waits until the state is another than `from`, and gives that. Cancellation safe.
    pub async fn wait_for_state_change(&self, from: ConnectivityState) -> ConnectivityState {
        let mut states = self.inner.shared.state.subscribe();
        let changed = states.wait_for(|state| *state != from).await;
        *changed.expect("this channel keeps the sender")
    }

    /// Closes the channel for good: new calls fail with `UNAVAILABLE`, and those that have begun go on to their end, which
    /// this waits for. All clones are the same channel.
    ///
    /// Cancellation safe: to stop waiting, as with a timeout, leaves the channel closing; the calls that are left end with
    /// their callers.
    pub async fn close(&self) {
        let shared = &self.inner.shared;
        shared.admission.close();
        shared.now_is(ConnectivityState::Shutdown);
        shared.closed.cancelled().await;
    }

    /// Each endpoint: its state, and why it is or is not being picked.
    pub fn explain(&self) -> Explanation {
        self.inner.shared.explain()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target().to_string();
        f.debug_struct("Channel")
            .field("target", &target)
            .field("state", &self.state())
            .finish()
    }
}

impl<B> Service<http::Request<B>> for Channel
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    type Response = http::Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> ResponseFuture<B> {
        ResponseFuture::begin(&self.inner, request)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::{Channel, ConnectivityState};

    #[tokio::test]
    async fn nothing_comes_after_shutdown() {
        let channel = Channel::builder("static:///127.0.0.1:1").build();
        let shared = &channel.expect("a channel").inner.shared;
        // The driver is about to tell a state; it cannot while somebody reads it, and meanwhile the channel closes.
        thread::scope(|scope| {
            let reads = shared.state.borrow();
            let (tell, told) = mpsc::channel();
            scope.spawn(move || {
                tell.send(()).expect("the test goes on");
                shared.now_is(ConnectivityState::Ready);
            });
            told.recv().expect("it runs");
            (0..1_000).for_each(|_| thread::yield_now());
            shared.admission.close();
            drop(reads);
        });
        assert_eq!(*shared.state.borrow(), ConnectivityState::Shutdown);
    }
}
