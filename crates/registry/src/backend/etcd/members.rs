//! One connection to one member at a time, the next member on any failure.

mod connection;
mod failure;
mod link;
mod tls;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::task::AbortOnDropHandle;

pub(super) use self::{
    connection::{Connection, REQUEST},
    failure::Failure,
};
pub use self::{
    failure::{EtcdError, OtherError},
    tls::TlsFailure,
};
use self::{link::Link, tls::Tls};
use super::EtcdTls;
use crate::Address;

/// How often one call tries, at the fewest and the most: even with one member, the connection may be what has failed.
const TRIES: (usize, usize) = (2, 3);

/// The members of a cluster in random order, and the connection to the one in use.
#[derive(Debug)]
pub(super) struct Members {
    endpoints: Vec<Address>,
    tls: Option<Arc<Tls>>,
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
            current: Mutex::default(),
            watchman: OnceLock::new(),
        }
    }

    /// The same, spoken to by TLS if there is any.
    pub(super) fn with_tls(mut self, tls: Option<EtcdTls>) -> Self {
        self.tls = tls.map(|files| Arc::new(Tls::new(files)));
        self
    }

    /// How often changed files could not be used.
    pub(super) fn refused_files(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.refused())
    }

    /// The connection in use. Does no I/O.
    pub(super) async fn connection(&self) -> Result<Connection, Failure> {
        let (turn, member, link) = self.link();
        Connection::new(turn, member, link).await
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

    /// Moves on to the next member, unless somebody has since that connection was given.
    pub(super) fn leave(&self, connection: &Connection) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.turn == connection.turn {
            tracing::debug!(member = %connection.member, "leaving an etcd member");
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

    /// What `request` does on the connection in use.
    pub(super) async fn call_once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure> {
        let connection = self.connection().await?;
        let result = request(connection.clone()).await;
        if result.as_ref().is_err_and(Failure::is_members) {
            self.leave(&connection);
        }
        result
    }
}
