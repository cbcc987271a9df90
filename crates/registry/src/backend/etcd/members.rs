//! One connection to one member at a time, the next member on any failure.

mod asking;
mod clock;
mod connection;
mod credentials;
mod dial;
mod error;
mod failure;
mod learning;
mod link;
mod order;
mod password;
mod ring;
mod tls;

use std::sync::{Arc, OnceLock};

use futures_util::future::join;
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::{
    connection::{Connection, REQUEST},
    failure::Failure,
};
use self::{credentials::Credentials, learning::learn_on, ring::Ring, tls::Tls};
pub use self::{
    error::{EtcdError, OtherError},
    tls::TlsFailure,
};
use super::EtcdOptions;
use crate::tls::Validity;

/// How often one call tries, at the fewest and the most: even with one member, the connection may be what has failed.
const TRIES: (usize, usize) = (2, 3);

/// The members of a cluster in random order, and the connection to the one in use.
#[derive(Debug)]
pub(super) struct Members {
    ring: Arc<Ring>,
    learns: bool,
    /// Looks after what changes without our doing, once there is a connection.
    upkeep: OnceLock<AbortOnDropHandle<()>>,
}

impl Members {
    pub(super) fn of(options: &EtcdOptions) -> Self {
        let tls = options.tls.clone().map(Tls::new).map(Arc::new);
        let user = options.user.clone();
        let credentials = user.map(Credentials::new).map(Arc::new);
        Self {
            ring: Arc::new(Ring::new(options.endpoints.clone(), tls, credentials)),
            learns: options.learns_members,
            upkeep: OnceLock::new(),
        }
    }

    /// How often changed files could not be used.
    pub(super) fn refused_files(&self) -> u64 {
        self.ring.tls.as_ref().map_or(0, |tls| tls.refused())
    }

    /// From when to when the certificate that members are shown is valid.
    pub(super) fn certificate(&self) -> Option<Validity> {
        self.ring.tls.as_ref()?.certificate()
    }

    /// The connection in use. Does no I/O, unless a token is to be fetched.
    pub(super) async fn connection(&self) -> Result<Connection, Failure> {
        self.ring().connection().await
    }

    /// The same for keeping a lease alive: of that etcd asks nobody who they are, so that it goes on when there is no token.
    pub(super) async fn connection_for_leases(&self) -> Result<Connection, Failure> {
        self.ring().connection_for_leases().await
    }

    fn ring(&self) -> &Ring {
        let start = || AbortOnDropHandle::new(tokio::spawn(self.keep_up()));
        self.upkeep.get_or_init(start);
        &self.ring
    }

    fn keep_up(&self) -> impl Future<Output = ()> + use<> {
        let (ring, tls) = (Arc::clone(&self.ring), self.ring.tls.clone());
        let learns = self.learns;
        let look = async move {
            if let Some(tls) = tls {
                tls.look_on().await;
            }
        };
        let learn = async move {
            if learns {
                learn_on(ring).await;
            }
        };
        async {
            join(look, learn).await;
        }
    }

    /// Moves on to the next member after a failure, unless no other could do better, somebody has moved on since that
    /// connection was given, or nothing was wrong but its token.
    pub(super) fn leave(&self, connection: &Connection, failure: &Failure) {
        if failure.is_members() {
            self.ring.leave(connection);
        }
    }

    /// What `request` does on the connection in use, done again at another member when that fails: only for what may be
    /// done twice.
    pub(super) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn(Connection) -> F,
    ) -> Result<T, Failure> {
        let most = self.ring.len().clamp(TRIES.0, TRIES.1);
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
        match self.ring().call(&request).await {
            Err(failure) if failure.is_token_refused() => self.ring().call(request).await,
            result => result,
        }
    }

    /// As tests need it: without TLS, without a user, without learning of others.
    #[cfg(test)]
    pub(super) fn new(endpoints: Vec<crate::Address>) -> Self {
        Self {
            ring: Arc::new(Ring::new(endpoints, None, None)),
            learns: false,
            upkeep: OnceLock::new(),
        }
    }
}
