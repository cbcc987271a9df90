//! What can go wrong with a store; each variant names the step that failed.

use std::error::Error;

use crate::{InstanceId, ServiceName};

/// The cause of a [`StoreError`], of whatever type the backend's own parts have.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A step with a store that failed. Nothing is retried inside a store: [`Registration`](crate::Registration) and
/// [`Registry::watch`](crate::Registry::watch) do that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The instances of a service could not be listed.
    #[error("cannot list the instances of {service}")]
    ListFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// A watch could not be started, or broke.
    #[error("cannot watch the instances of {service}")]
    WatchFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// The names of the services could not be listed.
    #[error("cannot list the services")]
    ServicesFailed {
        /// Why.
        source: Cause,
    },
    /// An instance could not be put into the store.
    #[error("cannot register {id} as {service}")]
    HoldFailed {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
        /// Why.
        source: Cause,
    },
    /// A held instance could not be changed.
    #[error("cannot update the registration of {id} as {service}")]
    UpdateFailed {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
        /// Why.
        source: Cause,
    },
    /// A held instance could not be taken out of the store.
    #[error("cannot remove the registration of {id} as {service}")]
    ReleaseFailed {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
        /// Why.
        source: Cause,
    },
    /// The instance is held by another process: one that was started later, or any, where it was to be taken
    /// [only if nobody has it](crate::Claim::IfAbsent).
    #[error("{id} of {service} is held by another process ({holder})")]
    Superseded {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
        /// Who holds it, as far as the store tells.
        holder: String,
    },
    /// A service's document could not be read.
    #[error("cannot read the document of {service}")]
    ReadDocumentFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// The watch of a service's document could not be started, or broke.
    #[error("cannot watch the document of {service}")]
    WatchDocumentFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// A service's document could not be written. Whether it was all the same is not known.
    #[error("cannot write the document of {service}")]
    SetDocumentFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// A service's document could not be deleted. Whether it was all the same is not known.
    #[error("cannot delete the document of {service}")]
    DeleteDocumentFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// The store has no place for documents.
    #[error("{registry} keeps no documents: a directory, etcd and memory do")]
    NoDocuments {
        /// The registry's URL.
        registry: String,
    },
    /// What operators want of a service's instances could not be read.
    #[error("cannot list the intents for {service}")]
    ListIntentsFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// The watch of what operators want could not be started, or broke.
    #[error("cannot watch the intents for {service}")]
    WatchIntentsFailed {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Cause,
    },
    /// What an operator wants of an instance could not be written. Whether it was all the same is not known.
    #[error("cannot write the intent for {id} of {service}")]
    SetIntentFailed {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
        /// Why.
        source: Cause,
    },
    /// What an operator wanted of an instance could not be deleted. Whether it was all the same is not known.
    #[error("cannot delete the intent for {id} of {service}")]
    DeleteIntentFailed {
        /// The service.
        service: ServiceName,
        /// The instance.
        id: InstanceId,
        /// Why.
        source: Cause,
    },
    /// The store has no place for intents.
    #[error("{registry} keeps no intents: a directory, etcd and memory do")]
    NoIntents {
        /// The registry's URL.
        registry: String,
    },
    /// The store can be read only.
    #[error("{registry} is read-only: nothing can be registered in it")]
    ReadOnly {
        /// The registry's URL.
        registry: String,
    },
}

/// The whole chain of causes in one line, as a log or a status message shows it.
///
/// ```
/// use std::io;
/// let error = io::Error::other("no route");
/// assert_eq!(registry::one_line(&error), "no route");
/// ```
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors print their source themselves.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}
