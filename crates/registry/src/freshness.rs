//! Whether what is known of a registry is known to be current.

use std::sync::Arc;

use tokio::time::Instant;

use crate::follow::Subject;

/// Whether a [`View`](crate::View), or a [`DocumentView`](crate::DocumentView), is known to be current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing has been read yet, and nothing has failed.
    Starting,
    /// It follows the registry.
    Live,
    /// It is the last that was known, and may have been overtaken.
    Stale {
        /// Since when.
        since: Instant,
        /// Why.
        cause: Arc<str>,
    },
}

impl Freshness {
    /// What comes of it when the registry says something.
    pub(crate) fn now_live(&self, subject: &Subject<'_>) -> Self {
        // As loud as what it takes back: whoever was told of the loss is told of its end.
        if let Self::Stale { since, .. } = self {
            let Subject { what, service, .. } = subject;
            let stale = since.elapsed();
            tracing::warn!(%service, what, ?stale, "following the registry again");
        }
        Self::Live
    }

    /// What comes of it when the registry cannot be followed.
    pub(crate) fn now_lost(&self, subject: &Subject<'_>, cause: &str) -> Self {
        let Subject {
            what,
            service,
            registry,
        } = subject;
        // Once for each outage; the freshness tells the rest.
        match self {
            Self::Starting => {
                tracing::warn!(%service, what, registry, cause, "cannot read the registry yet; trying on");
            }
            Self::Live => {
                tracing::warn!(%service, what, registry, cause, "lost the registry; going on with what was known last");
            }
            Self::Stale { .. } => {
                tracing::debug!(%service, what, registry, cause, "still without the registry");
            }
        }
        self.now_stale(cause)
    }

    /// What comes of it when what is known may have been overtaken: stale since it first was so.
    pub(crate) fn now_stale(&self, cause: &str) -> Self {
        let since = match self {
            Self::Starting | Self::Live => Instant::now(),
            Self::Stale { since, .. } => *since,
        };
        Self::Stale {
            since,
            cause: cause.into(),
        }
    }
}
