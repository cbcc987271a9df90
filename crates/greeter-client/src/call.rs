//! One greeting, and the wait until there is somebody to answer it.

use std::time::Duration;

use balance::{Channel, ConnectivityState, ServedBy, TellServedBy, WaitForReady};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tonic::Request;

use crate::counts::Outcome;

/// A way to greet. Each caller has a clone of its own.
pub(crate) trait Greet: Clone + Send + 'static {
    /// Whether a call would find somebody now. Asked before each call, so it must be cheap.
    fn is_ready(&self) -> bool;

    /// Resolves when a call would find somebody. Cancellation safe.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Makes one call.
    fn greet(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// Greets through a balanced channel.
#[derive(Clone)]
pub(crate) struct Greeter {
    channel: Channel,
    client: GreeterClient<Channel>,
    name: String,
    timeout: Duration,
    fail_fast: bool,
}

impl Greeter {
    /// Calls that send `name` and have `timeout` each; with `fail_fast` they do not wait for an instance.
    pub(crate) fn new(channel: Channel, name: String, timeout: Duration, fail_fast: bool) -> Self {
        Self {
            client: GreeterClient::new(channel.clone()),
            channel,
            name,
            timeout,
            fail_fast,
        }
    }

    fn request(&self) -> Request<HelloRequest> {
        let mut request = Request::new(HelloRequest {
            name: self.name.clone(),
        });
        request.set_timeout(self.timeout);
        let extensions = request.extensions_mut();
        extensions.insert(WaitForReady(!self.fail_fast));
        extensions.insert(TellServedBy);
        request
    }

    /// Whether calls wait for an instance.
    pub(crate) fn waits(&self) -> bool {
        !self.fail_fast
    }

    /// Resolves when there is nobody to call any more, for callers that wait. Cancellation safe.
    pub(crate) async fn gone(&self) {
        self.state_is(|state| !is_callable(state)).await;
    }

    /// Why there is nobody to call, when that is known.
    pub(crate) fn why_nobody(&self) -> Option<String> {
        let explained = self.channel.explain();
        let registry = Some(explained.freshness).filter(|text| text.starts_with("stale"));
        explained.failing.or(registry)
    }

    async fn state_is(&self, wanted: impl Fn(ConnectivityState) -> bool) {
        let mut state = self.channel.state();
        while !wanted(state) {
            state = self.channel.wait_for_state_change(state).await;
        }
    }
}

/// Whether a call in this state finds somebody; what is IDLE connects for a call, and only for one.
fn is_callable(state: ConnectivityState) -> bool {
    matches!(state, ConnectivityState::Ready | ConnectivityState::Idle)
}

impl Greet for Greeter {
    fn is_ready(&self) -> bool {
        self.fail_fast || is_callable(self.channel.state())
    }

    async fn ready(&self) {
        if !self.fail_fast {
            self.state_is(is_callable).await;
        }
    }

    async fn greet(&mut self) -> Outcome {
        match self.client.say_hello(self.request()).await {
            Ok(response) => Outcome::Answered {
                by: response
                    .extensions()
                    .get::<ServedBy>()
                    .map(|served| served.address().clone()),
                greeting: response.into_inner().message,
            },
            Err(status) => Outcome::Failed(status),
        }
    }
}
