//! One greeting, and the wait until there is somebody to answer it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balance::{Channel, ConnectivityState, ServedBy, TellServedBy, WaitForReady};
use futures_util::{Stream, stream::unfold};
use proto::{
    helloworld::{HelloRequest, greeter_client::GreeterClient},
    user::v1::{GreetUserRequest, user_service_client::UserServiceClient},
};
use registry::Address;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::{Request, Response, Status};

use crate::counts::Outcome;

/// How often a stream asks for a greeting.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// A way to greet. Each caller has a clone of its own.
pub(crate) trait Greet: Clone + Send + 'static {
    /// Whether a call would find somebody now. Asked before each call, so it must be cheap.
    fn is_ready(&self) -> bool;

    /// Resolves when a call would find somebody. Cancellation safe.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Makes one call.
    fn greet(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// What a call is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// One greeting of that name.
    Once(String),
    /// A stream of them.
    Stream { name: String, length: Duration },
    /// A user service has the user of that name greeted.
    OfUser(String),
}

impl Kind {
    /// The gRPC service that has the method.
    pub(crate) fn service(&self) -> &'static str {
        match self {
            Self::Once(_) | Self::Stream { .. } => "helloworld.Greeter",
            Self::OfUser(_) => "user.v1.UserService",
        }
    }
}

/// Greets through a balanced channel.
#[derive(Clone)]
pub(crate) struct Greeter {
    channel: Channel,
    kind: Kind,
    timeout: Duration,
    fail_fast: bool,
}

impl Greeter {
    /// Calls of that kind that have `timeout` each; with `fail_fast` they do not wait for an instance.
    pub(crate) fn new(channel: Channel, kind: Kind, timeout: Duration, fail_fast: bool) -> Self {
        Self {
            channel,
            kind,
            timeout,
            fail_fast,
        }
    }

    fn request<M>(&self, message: M, timeout: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        let extensions = request.extensions_mut();
        extensions.insert(WaitForReady(!self.fail_fast));
        extensions.insert(TellServedBy);
        request
    }

    fn greeter(&self) -> GreeterClient<Channel> {
        GreeterClient::new(self.channel.clone())
    }

    async fn greet_once(&self, name: String) -> Result<Outcome, Status> {
        let request = self.request(HelloRequest { name }, self.timeout);
        let response = self.greeter().say_hello(request).await?;
        Ok(Outcome::Answered {
            by: served_by(&response),
            greeting: response.into_inner().message,
        })
    }

    async fn greet_user(&self, name: String) -> Result<Outcome, Status> {
        let request = self.request(GreetUserRequest { name }, self.timeout);
        let mut users = UserServiceClient::new(self.channel.clone());
        let response = users.greet_user(request).await?;
        Ok(Outcome::Answered {
            by: served_by(&response),
            greeting: response.into_inner().message,
        })
    }

    /// Asks for greetings until `length` is over, and then takes those that are still to come. A stream has gone well
    /// when every one of them was answered and it ended in order.
    async fn greet_for(&self, name: String, length: Duration) -> Result<Outcome, Status> {
        let asked = Arc::new(AtomicU64::new(0));
        let names = names(HelloRequest { name }, length, Arc::clone(&asked));
        let request = self.request(names, length + self.timeout);
        let response = self.greeter().say_hello_bidi_stream(request).await?;
        let by = served_by(&response);
        let (mut replies, mut answered, mut greeting) = (response.into_inner(), 0, String::new());
        while let Some(reply) = replies.message().await? {
            answered += 1;
            greeting = reply.message;
        }
        let asked = asked.load(Ordering::Relaxed);
        if answered != asked {
            let message = format!("the stream ended in order with {answered} of {asked} answers");
            return Err(Status::data_loss(message));
        }
        Ok(Outcome::Answered { greeting, by })
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
        let greeted = match self.kind.clone() {
            Kind::Once(name) => self.greet_once(name).await,
            Kind::Stream { name, length } => self.greet_for(name, length).await,
            Kind::OfUser(name) => self.greet_user(name).await,
        };
        greeted.unwrap_or_else(Outcome::Failed)
    }
}

fn served_by<T>(response: &Response<T>) -> Option<Address> {
    let served = response.extensions().get::<ServedBy>();
    served.map(|served| served.address().clone())
}

/// The same name again and again until `length` is over, the first at once; `asked` tells how many there were.
fn names(
    hello: HelloRequest,
    length: Duration,
    asked: Arc<AtomicU64>,
) -> impl Stream<Item = HelloRequest> {
    let mut ticks = interval(ASKED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = Instant::now() + length;
    unfold(ticks, move |mut ticks| {
        let (hello, asked) = (hello.clone(), Arc::clone(&asked));
        async move {
            let now = ticks.tick().await;
            if now >= over {
                return None;
            }
            asked.fetch_add(1, Ordering::Relaxed);
            Some((hello, ticks))
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_asks_ten_times_a_second_until_its_length_is_over() {
        let (asked, start) = (Arc::default(), Instant::now());
        let names = names(
            HelloRequest::default(),
            Duration::from_secs(2),
            Arc::clone(&asked),
        );
        assert_eq!(names.count().await, 20);
        assert_eq!(asked.load(Ordering::Relaxed), 20);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }
}
