//! Why there is no channel.

#[cfg(feature = "tls")]
use crate::transport::InvalidTls;
use crate::{resolver::Unresolvable, service_config::InvalidServiceConfig, target::InvalidTarget};

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The target names nothing that can be called.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The target names nothing that this channel can find.
    #[error(transparent)]
    Unresolvable(#[from] Unresolvable),
    /// The service config is not one.
    #[error("the service config is not usable")]
    ServiceConfig(#[from] InvalidServiceConfig),
    /// TLS cannot be used as it is configured.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] InvalidTls),
    /// The `user-agent` is no value of a header.
    #[error("{program:?} cannot be said in `user-agent`: printable ASCII can")]
    UserAgent {
        /// What was to be said.
        program: String,
    },
    /// The descriptors are none.
    #[error("the descriptors are no google.protobuf.FileDescriptorSet")]
    Descriptors(#[source] prost::DecodeError),
    /// A policy was registered by a name that means something already.
    #[error(
        "a policy cannot be registered as {name:?}, which is the name of another policy or of what goes around one; \
         choose another name"
    )]
    PolicyNameTaken {
        /// The name.
        name: String,
    },
    /// There is no policy of that name.
    #[error("there is no policy {name:?}; the policies are {known}")]
    UnknownPolicy {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The policy has settings that it cannot do without.
    #[error(
        "the policy {name:?} cannot be used without settings: {problem}; give it by a service config"
    )]
    PolicySettings {
        /// The name.
        name: String,
        /// What is missing.
        problem: String,
    },
}
