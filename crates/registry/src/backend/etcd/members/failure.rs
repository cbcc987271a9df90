//! A request that failed: at which member, and what is to be done about it.

use std::{error::Error, fmt, sync::Arc};

use tonic::Code;

use super::error::{EtcdError, OtherError};
use crate::Address;

/// What etcd-client makes of a first keep-alive that is answered with a TTL of 0.
const NO_LEASE: &str = "lease not found";

/// What etcd's gRPC server says of a request that is larger than it takes.
const TOO_LARGE: &str = "grpc: received message larger";

/// A request that failed, and at which member.
#[derive(Debug, Clone)]
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

    /// That a member says that there is no such lease.
    pub(super) fn lease_not_found(member: &Address) -> Self {
        let error = etcd_client::Error::LeaseKeepAliveError(NO_LEASE.into());
        Self::new(member, OtherError(Arc::new(error)).into())
    }

    /// That a member said something unexpected.
    pub(super) fn complaint(member: &Address, text: String) -> Self {
        let error = etcd_client::Error::WatchError(text);
        Self::new(member, OtherError(Arc::new(error)).into())
    }

    /// The same of a request about `key`, or about the keys that begin with it.
    pub(in super::super) fn about(mut self, about: impl AsRef<[u8]>) -> Self {
        if let EtcdError::PermissionDenied { key, .. } = &mut self.cause {
            *key = Some(String::from_utf8_lossy(about.as_ref()).into_owned());
        }
        self
    }

    /// The same of a request about several keys, of which the first stands for all: etcd does not say which it was.
    pub(in super::super) fn about_one_of(self, keys: &[impl AsRef<str>]) -> Self {
        match keys.first() {
            Some(key) => self.about(key.as_ref()),
            None => self,
        }
    }

    /// Whether etcd refused the token that the request had, and did nothing.
    pub(super) fn is_token_refused(&self) -> bool {
        matches!(self.cause, EtcdError::TokenRefused { .. })
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
        let is_refusal = |code| {
            matches!(
                code,
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::FailedPrecondition
                    | Code::OutOfRange
            )
        };
        match &self.cause {
            EtcdError::WrongPassword { .. }
            | EtcdError::NoPassword { .. }
            | EtcdError::NoUser
            | EtcdError::TokenRefused { .. }
            | EtcdError::PermissionDenied { .. } => false,
            EtcdError::Unreachable(_) | EtcdError::Tls(_) | EtcdError::TimedOut => true,
            EtcdError::Other(_) => !self
                .status()
                .is_some_and(|status| is_refusal(status.code())),
        }
    }

    /// Whether etcd refused it for what it says, so that a part of it might be done.
    pub(in super::super) fn is_of_content(&self) -> bool {
        let is_refusal = |status: &tonic::Status| match status.code() {
            Code::InvalidArgument => true,
            Code::ResourceExhausted => status.message().starts_with(TOO_LARGE),
            _ => false,
        };
        self.is_denied() || self.status().is_some_and(is_refusal)
    }

    /// Whether etcd said that we may not.
    pub(in super::super) fn is_denied(&self) -> bool {
        matches!(self.cause, EtcdError::PermissionDenied { .. })
    }

    /// Whether it is certain that nothing was written.
    pub(in super::super) fn wrote_nothing(&self) -> bool {
        // etcd's own reasons (too many requests, no space), or its gRPC server's; an HTTP/2 error has the same code, and
        // may come after the request was taken.
        let is_refused =
            |text: &str| text.starts_with("etcdserver: ") || text.starts_with(TOO_LARGE);
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
