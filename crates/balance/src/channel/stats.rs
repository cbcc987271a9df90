//! What a channel counts of its own doings.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the channel was built.
#[derive(Debug, Default)]
pub(super) struct Stats {
    refused_configs: AtomicU64,
    rebuilds: AtomicU64,
    ejections: AtomicU64,
}

impl Stats {
    /// The registry had a service config that cannot be used.
    pub(super) fn refused_config(&self) {
        self.refused_configs.fetch_add(1, Ordering::Relaxed);
    }

    /// A picker was published.
    pub(super) fn rebuilt(&self) {
        self.rebuilds.fetch_add(1, Ordering::Relaxed);
    }

    /// An endpoint was ejected.
    pub(super) fn ejected(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused_configs(&self) -> u64 {
        self.refused_configs.load(Ordering::Relaxed)
    }

    pub(super) fn rebuilds(&self) -> u64 {
        self.rebuilds.load(Ordering::Relaxed)
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }
}
