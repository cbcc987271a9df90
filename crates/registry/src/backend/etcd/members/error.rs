//! What went wrong with a member, told apart as far as somebody can do something about it.

use std::{error::Error, fmt, iter::successors, sync::Arc};

use super::{link::Link, tls::TlsFailure};

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
    /// etcd does not know the user, or not with this password. It is asked again after a while, and as soon as the file
    /// holds another password.
    #[error("etcd does not take the user {user:?} with the password that it is given")]
    WrongPassword {
        /// The user.
        user: String,
    },
    /// The user's password cannot be read.
    #[error("the user {user:?} has no password: {problem}")]
    NoPassword {
        /// The user.
        user: String,
        /// Why.
        problem: String,
    },
    /// etcd asks who we are, and we have no user.
    #[error("etcd asks for a user and a password, and none are configured")]
    NoUser,
    /// etcd does not know the token that it has given to the user, or not any more; another one is fetched.
    #[error("etcd refuses the token of the user {user:?}")]
    TokenRefused {
        /// The user.
        user: String,
    },
    /// The user may not do what was asked for.
    #[error("etcd gives {} no permission for {}", whom(user.as_deref()), what(key.as_deref()))]
    PermissionDenied {
        /// The user; `None` when none is configured.
        user: Option<String>,
        /// The key, or what the keys begin with, where that is known.
        key: Option<String>,
    },
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

    /// What an error of a request over `link` means.
    pub(super) fn of_request(
        error: etcd_client::Error,
        link: Option<&Link>,
        user: Option<&str>,
    ) -> Self {
        let broken: Option<&(dyn Error + 'static)> = match &error {
            etcd_client::Error::GRpcStatus(status) => status.source(),
            etcd_client::Error::TransportError(error) => Some(error),
            _ => None,
        };
        // With a cause, it is the connection's; a member's answer has none.
        let told = broken.and_then(|cause| {
            let dialled = Self::of(cause).cloned();
            dialled.or_else(|| link.and_then(Link::ended))
        });
        let refused = match &error {
            etcd_client::Error::GRpcStatus(status) => Self::of_refusal(status.message(), user),
            _ => None,
        };
        let known = told.or(refused);
        known.unwrap_or_else(|| OtherError(Arc::new(error)).into())
    }

    /// What etcd says of users, in a status or in the reason for which it cancels a watch.
    pub(super) fn of_refusal(text: &str, user: Option<&str>) -> Option<Self> {
        let owned = || user.map(str::to_owned);
        let refusal = text.split_once("etcdserver: ")?.1;
        Some(match (refusal, owned()) {
            ("permission denied", user) => Self::PermissionDenied { user, key: None },
            ("user name is empty", None) => Self::NoUser,
            (
                "invalid auth token" | "revision of auth store is old" | "user name is empty",
                Some(user),
            ) => Self::TokenRefused { user },
            ("authentication failed, invalid user ID or password", Some(user)) => {
                Self::WrongPassword { user }
            }
            _ => return None,
        })
    }
}

fn whom(user: Option<&str>) -> String {
    user.map_or_else(|| "us".into(), |user| format!("the user {user:?}"))
}

fn what(key: Option<&str>) -> String {
    key.map_or_else(|| "this".into(), |key| format!("{key:?}"))
}

/// What etcd, or the connection to it, says.
#[derive(Debug, Clone)]
pub struct OtherError(pub(super) Arc<etcd_client::Error>);

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

#[cfg(test)]
mod tests {
    use super::EtcdError;

    #[test]
    fn what_etcd_says_of_users_is_read_in_a_status_and_in_a_cancelled_watch() {
        for (text, user, told) in [
            ("invalid auth token", Some("ann"), Some("refuses the token")),
            (
                "revision of auth store is old",
                Some("ann"),
                Some("refuses the token"),
            ),
            ("user name is empty", Some("ann"), Some("refuses the token")),
            ("user name is empty", None, Some("none are configured")),
            (
                "permission denied",
                Some("ann"),
                Some("\"ann\" no permission"),
            ),
            ("permission denied", None, Some("us no permission")),
            (
                "mvcc: required revision has been compacted",
                Some("ann"),
                None,
            ),
        ] {
            let status = format!("etcdserver: {text}");
            let reason = format!("rpc error: code = Unauthenticated desc = {status}");
            for text in [&status, &reason] {
                let read = EtcdError::of_refusal(text, user).map(|read| read.to_string());
                let is_told = match (&read, told) {
                    (Some(read), Some(told)) => read.contains(told),
                    (read, told) => read.is_none() && told.is_none(),
                };
                assert!(is_told, "{text}: {read:?}");
            }
        }
    }
}
