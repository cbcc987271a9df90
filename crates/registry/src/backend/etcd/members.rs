//! One connection to one member at a time, the next member on any failure.

mod connection;
mod credentials;
mod failure;
mod link;
mod tls;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::task::AbortOnDropHandle;

use self::{connection::Pass, credentials::Credentials, link::Link, tls::Tls};
pub(super) use self::{
    connection::{Connection, REQUEST},
    failure::Failure,
};
pub use self::{
    failure::{EtcdError, OtherError},
    tls::TlsFailure,
};
use super::{EtcdTls, EtcdUser};
use crate::Address;

/// How often one call tries, at the fewest and the most: even with one member, the connection may be what has failed.
const TRIES: (usize, usize) = (2, 3);

/// The members of a cluster in random order, and the connection to the one in use.
#[derive(Debug)]
pub(super) struct Members {
    endpoints: Vec<Address>,
    tls: Option<Arc<Tls>>,
    credentials: Option<Arc<Credentials>>,
    current: Mutex<Current>,
    /// Keeps an eye on the files of TLS, once there is a connection.
    watchman: OnceLock<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Current {
    /// How many members were left; modulo their number, the one in use.
    turn: usize,
    link: Option<Link>,
}

impl Members {
    pub(super) fn new(mut endpoints: Vec<Address>) -> Self {
        fastrand::shuffle(&mut endpoints);
        Self {
            endpoints,
            tls: None,
            credentials: None,
            current: Mutex::default(),
            watchman: OnceLock::new(),
        }
    }

    /// The same, spoken to by TLS if there is any.
    pub(super) fn with_tls(mut self, tls: Option<EtcdTls>) -> Self {
        self.tls = tls.map(|files| Arc::new(Tls::new(files)));
        self
    }

    /// The same as that user, if there is one.
    pub(super) fn with_user(mut self, user: Option<EtcdUser>) -> Self {
        self.credentials = user.map(|user| Arc::new(Credentials::new(user)));
        self
    }

    /// How often changed files could not be used.
    pub(super) fn refused_files(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.refused())
    }

    /// The connection in use. Does no I/O, unless a token is to be fetched.
    pub(super) async fn connection(&self) -> Result<Connection, Failure> {
        let (turn, member, link) = self.link();
        let pass = match &self.credentials {
            None => None,
            Some(credentials) => {
                let token = credentials.token(&member, &link).await;
                let leave = |failure: &Failure| {
                    if failure.is_members() {
                        self.leave_turn(turn);
                    }
                };
                Some(Pass {
                    credentials: Arc::clone(credentials),
                    token: token.inspect_err(leave)?,
                })
            }
        };
        Connection::new(turn, member, link, pass).await
    }

    fn link(&self) -> (usize, Address, Link) {
        if let Some(tls) = &self.tls {
            let look = || AbortOnDropHandle::new(tokio::spawn(Arc::clone(tls).look_on()));
            self.watchman.get_or_init(look);
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let member = &self.endpoints[current.turn % self.endpoints.len()];
        let link = current
            .link
            .get_or_insert_with(|| Link::new(member, self.tls.as_ref()))
            .clone();
        (current.turn, member.clone(), link)
    }

    /// Moves on to the next member, unless somebody has since that connection was given, or nothing was wrong but its
    /// token.
    pub(super) fn leave(&self, connection: &Connection) {
        if !connection.has_lost_its_token() {
            self.leave_turn(connection.turn);
        }
    }

    fn leave_turn(&self, turn: usize) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.turn == turn {
            let member = &self.endpoints[turn % self.endpoints.len()];
            tracing::debug!(%member, "leaving an etcd member");
            current.turn += 1;
            current.link = None;
        }
    }

    /// What `request` does on the connection in use, done again at another member when that fails: only for what may be
    /// done twice.
    pub(super) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn(Connection) -> F,
    ) -> Result<T, Failure> {
        let most = self.endpoints.len().clamp(TRIES.0, TRIES.1);
        let mut tries = 1;
        loop {
            match self.call_once(&request).await {
                Err(failure) if tries < most && failure.is_members() => {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// What `request` does on the connection in use; done again only when etcd has refused its token, and so has done
    /// nothing.
    pub(super) async fn call_once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn(Connection) -> F,
    ) -> Result<T, Failure> {
        match self.try_once(&request).await {
            Err(failure) if failure.is_token_refused() => self.try_once(request).await,
            result => result,
        }
    }

    async fn try_once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn(Connection) -> F,
    ) -> Result<T, Failure> {
        let connection = self.connection().await?;
        let result = request(connection.clone()).await;
        if result.as_ref().is_err_and(Failure::is_members) {
            self.leave(&connection);
        }
        result
    }
}
