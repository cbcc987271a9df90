//! What went wrong with a member, told apart as far as somebody can do something about it.

use std::{error::Error, fmt, iter::successors, sync::Arc};

use tonic::Code;

use super::tls::TlsFailure;
use crate::Address;

/// What etcd-client makes of a first keep-alive that is answered with a TTL of 0.
const NO_LEASE: &str = "lease not found";

/// Why something could not be done with an etcd cluster.
///
/// It is among the causes of the [`StoreError`](crate::StoreError)s of an [`EtcdStore`](super::super::EtcdStore), where
/// [`EtcdError::of`] finds it. No text of it has a secret in it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// There is no connection to the member.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// There is no TLS with the member, be it for its certificate or for ours.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The member did not answer within the time that it has.
    #[error("no answer in time")]
    TimedOut,
    /// Something else, as etcd or the connection to it says.
    #[error(transparent)]
    Other(#[from] OtherError),
}

impl EtcdError {
    /// The one among the causes of `error`, if there is one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use registry::{Registry, backend::etcd::{EtcdError, EtcdStore}};
    ///
    /// let registry = Registry::new(EtcdStore::new("etcd://127.0.0.1:1".parse()?));
    /// let error = registry.services().await.expect_err("nobody listens there");
    /// assert!(matches!(EtcdError::of(&error), Some(EtcdError::Unreachable(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut causes = successors(Some(error), |error| (*error).source());
        causes.find_map(<dyn Error>::downcast_ref)
    }

    /// What an error of a request means; `ended` is why its connection was ended, where that was for TLS.
    fn of_request(error: etcd_client::Error, ended: Option<&TlsFailure>) -> Self {
        let broken: Option<&(dyn Error + 'static)> = match &error {
            etcd_client::Error::GRpcStatus(status) => status.source(),
            etcd_client::Error::TransportError(error) => Some(error),
            _ => None,
        };
        // With a cause, it is the connection's; a member's answer has none.
        let told = broken.and_then(|cause| {
            let dialled = Self::of(cause).cloned();
            dialled.or_else(|| ended.cloned().map(Self::Tls))
        });
        told.unwrap_or_else(|| OtherError(Arc::new(error)).into())
    }
}

/// What etcd, or the connection to it, says.
#[derive(Debug, Clone)]
pub struct OtherError(Arc<etcd_client::Error>);

impl fmt::Display for OtherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            etcd_client::Error::GRpcStatus(status) => match status.message() {
                "" => status.code().fmt(f),
                message => f.write_str(message),
            },
            etcd_client::Error::WatchError(text) => f.write_str(text),
            error => error.fmt(f),
        }
    }
}

impl Error for OtherError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            etcd_client::Error::GRpcStatus(status) => status.source(),
            error => error.source(),
        }
    }
}

/// A request that failed, and at which member.
#[derive(Debug)]
pub(in super::super) struct Failure {
    member: Address,
    cause: EtcdError,
}

impl Failure {
    pub(super) fn new(member: &Address, cause: EtcdError) -> Self {
        Self {
            member: member.clone(),
            cause,
        }
    }

    /// That a request failed; `ended` is why its connection was ended, where that was for TLS.
    pub(super) fn of_request(
        member: &Address,
        error: etcd_client::Error,
        ended: Option<&TlsFailure>,
    ) -> Self {
        Self::new(member, EtcdError::of_request(error, ended))
    }

    /// That a member says that there is no such lease.
    pub(super) fn lease_not_found(member: &Address) -> Self {
        let error = etcd_client::Error::LeaseKeepAliveError(NO_LEASE.into());
        Self::of_request(member, error, None)
    }

    /// That a member said something unexpected.
    pub(super) fn complaint(member: &Address, text: String) -> Self {
        Self::of_request(member, etcd_client::Error::WatchError(text), None)
    }

    fn status(&self) -> Option<&tonic::Status> {
        match &self.cause {
            EtcdError::Other(OtherError(error)) => match &**error {
                etcd_client::Error::GRpcStatus(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether another member might do better. If not, the request was refused, and nothing was done.
    pub(in super::super) fn is_members(&self) -> bool {
        !self.status().is_some_and(|status| {
            matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::FailedPrecondition
                    | Code::OutOfRange
            )
        })
    }

    /// Whether it is certain that nothing was written.
    pub(in super::super) fn wrote_nothing(&self) -> bool {
        // etcd's own reasons (too many requests, no space), or its gRPC server's; an HTTP/2 error has the same code, and
        // may come after the request was taken.
        let is_refused = |text: &str| {
            text.starts_with("etcdserver: ") || text.starts_with("grpc: received message larger")
        };
        !self.is_members()
            || self.status().is_some_and(|status| {
                status.code() == Code::ResourceExhausted && is_refused(status.message())
            })
    }

    /// Whether an answer was larger than it may be.
    pub(in super::super) fn is_too_large(&self) -> bool {
        // tonic's own; etcd has that code for a revision that is compacted, or yet to come.
        self.status().is_some_and(|status| {
            status.code() == Code::OutOfRange && status.message().contains("length too large")
        })
    }

    /// Whether etcd said that there is no such lease.
    pub(in super::super) fn is_lease_not_found(&self) -> bool {
        match &self.cause {
            EtcdError::Other(OtherError(error)) => match &**error {
                etcd_client::Error::GRpcStatus(status) => status.code() == Code::NotFound,
                etcd_client::Error::LeaseKeepAliveError(text) => text == NO_LEASE,
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd member {}: {}", self.member, self.cause)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}
