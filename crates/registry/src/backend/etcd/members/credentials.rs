//! Who we are to the cluster: a token that etcd gives for a password.
//!
//! A token is good at every member, until etcd forgets it: when it was not used for five minutes, when the member restarts,
//! when the user's password or the permissions change. So it is fetched when it is first needed, and again when a request
//! was refused for it, which did nothing then. One fetch serves all who wait for it, and goes on when they leave.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::Channel;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::HeaderValue;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::{
    connection::{REQUEST, client},
    error::EtcdError,
    failure::Failure,
    link::Link,
    password::PasswordReader,
};
use crate::{
    Address, Backoff, BackoffPolicy,
    backend::etcd::{EtcdUser, options::Password},
};

/// How long a token that etcd may have meant is not doubted again: it was just fetched, so that something else is wrong.
const BEYOND_DOUBT: Duration = Duration::from_secs(10);
/// How often a password that etcd has refused is tried again. Checking one costs etcd some hundred milliseconds of a core.
const AGAIN: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(10),
    multiplier: 1.6,
    jitter: 0.2,
};

/// A user, and the token that etcd has given it.
#[derive(Debug)]
pub(super) struct Credentials {
    user: EtcdUser,
    reader: PasswordReader,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fetch: Option<Fetch>,
    /// How many fetches were begun.
    number: u64,
    refused: Option<Refused>,
    backoff: Backoff,
}

/// A password that etcd has refused, and when to try it again.
#[derive(Debug)]
struct Refused {
    password: Password,
    until: Instant,
}

type Fetch = Shared<BoxFuture<'static, Result<Token, Failure>>>;

/// What came of a fetch.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// `None` where etcd has no authentication enabled.
    pub(super) value: Option<HeaderValue>,
    number: u64,
    fetched: Instant,
}

impl Credentials {
    pub(super) fn new(user: EtcdUser) -> Self {
        let state = State {
            fetch: None,
            number: 0,
            refused: None,
            backoff: Backoff::new(AGAIN),
        };
        Self {
            user,
            reader: PasswordReader::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn user(&self) -> &str {
        &self.user.name
    }

    /// The token that is good as far as anybody knows, fetched over `link` if there is none.
    pub(super) async fn token(
        self: &Arc<Self>,
        member: &Address,
        link: &Link,
    ) -> Result<Token, Failure> {
        let (number, fetch) = self.fetching(member, link);
        let fetched = fetch.await;
        if fetched.is_err() {
            self.drop_fetch(number);
        }
        fetched
    }

    /// The fetch that is under way or done, or a new one.
    fn fetching(self: &Arc<Self>, member: &Address, link: &Link) -> (u64, Fetch) {
        let mut state = self.lock();
        let number = state.number;
        if let Some(fetch) = &state.fetch {
            return (number, fetch.clone());
        }
        let number = number + 1;
        let fetch = tokio::spawn(Arc::clone(self).fetch(number, member.clone(), link.clone()));
        let member = member.clone();
        let fetch = AbortOnDropHandle::new(fetch).map(move |fetched| {
            let broken =
                |_| Failure::complaint(&member, "a token was not fetched to the end".into());
            fetched.map_err(broken).flatten()
        });
        let fetch = fetch.boxed().shared();
        state.number = number;
        state.fetch = Some(fetch.clone());
        (number, fetch)
    }

    async fn fetch(
        self: Arc<Self>,
        number: u64,
        member: Address,
        link: Link,
    ) -> Result<Token, Failure> {
        let failed = |cause| Failure::new(&member, cause);
        let password = self.password().await.map_err(failed)?;
        if self.is_refused(&password) {
            return Err(failed(self.wrong_password()));
        }
        let channel = Channel::Tonic(link.channel.clone());
        let mut auth = client(&member, channel).await?.auth_client();
        let asked = auth.authenticate(self.user.name.clone(), password.clone());
        let value = match timeout(REQUEST, asked).await {
            Ok(Ok(answer)) => Some(header(answer.token()).map_err(failed)?),
            Ok(Err(error)) if is_not_enabled(&error) => None,
            Ok(Err(error)) => {
                let cause = EtcdError::of_request(error, Some(&link), Some(self.user()));
                if matches!(cause, EtcdError::WrongPassword { .. }) {
                    self.note_refusal(password);
                }
                return Err(failed(cause));
            }
            Err(_) => return Err(failed(EtcdError::TimedOut)),
        };
        self.note_success();
        Ok(Token {
            value,
            number,
            fetched: Instant::now(),
        })
    }

    async fn password(&self) -> Result<String, EtcdError> {
        let unusable = |problem| EtcdError::NoPassword {
            user: self.user.name.clone(),
            problem,
        };
        match &self.user.password {
            Password::Given(password) => Ok(password.clone()),
            Password::In(file) => self.reader.read(file).await.map_err(unusable),
        }
    }

    fn wrong_password(&self) -> EtcdError {
        let user = self.user.name.clone();
        EtcdError::WrongPassword { user }
    }

    /// Whether etcd has refused this password lately.
    fn is_refused(&self, password: &str) -> bool {
        self.lock().refused.as_ref().is_some_and(|refused| {
            refused.password == Password::Given(password.into()) && Instant::now() < refused.until
        })
    }

    fn note_refusal(&self, password: String) {
        let mut state = self.lock();
        let password = Password::Given(password);
        let is_new = state
            .refused
            .as_ref()
            .is_none_or(|refused| refused.password != password);
        if is_new {
            state.backoff.reset();
            let user = self.user();
            tracing::warn!(
                user,
                "etcd does not take the user with the password that it is given"
            );
        }
        let until = Instant::now() + state.backoff.next_delay();
        state.refused = Some(Refused { password, until });
    }

    fn note_success(&self) {
        let mut state = self.lock();
        state.refused = None;
        state.backoff.reset();
    }

    /// Forgets a token that etcd has refused, unless another one has taken its place.
    pub(super) fn refuse(&self, token: &Token) {
        self.drop_fetch(token.number);
    }

    /// Forgets a token that etcd may have refused, unless it was just fetched.
    pub(super) fn doubt(&self, token: &Token) {
        if token.fetched.elapsed() > BEYOND_DOUBT {
            self.drop_fetch(token.number);
        }
    }

    /// Whether this is the token to be used.
    pub(super) fn holds(&self, token: &Token) -> bool {
        let state = self.lock();
        state.fetch.is_some() && state.number == token.number
    }

    fn drop_fetch(&self, number: u64) {
        let mut state = self.lock();
        if state.number == number {
            state.fetch = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn header(token: &str) -> Result<HeaderValue, EtcdError> {
    let mut value = HeaderValue::from_str(token).map_err(|_| {
        let text = "a token is none that could be sent";
        EtcdError::of_request(etcd_client::Error::Internal(text.into()), None, None)
    })?;
    // Not to be shown, nor kept in a compression table.
    value.set_sensitive(true);
    Ok(value)
}

fn is_not_enabled(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.code() == Code::FailedPrecondition
            && status.message().ends_with("authentication is not enabled"))
}
