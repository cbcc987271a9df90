//! What a channel counts of its own doings.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters since the channel was built.
#[derive(Debug, Default)]
pub(super) struct Stats {
    refused_configs: AtomicU64,
    rebuilds: AtomicU64,
    ejections: AtomicU64,
    panics: AtomicU64,
    mass_losses: AtomicU64,
    queued: AtomicUsize,
}

/// A call that waits for an endpoint or for a free stream, for as long as it does.
pub(super) struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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

    /// Too few endpoints are healthy: all are used from now on.
    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// The registry has dropped so many at once that they serve on.
    pub(super) fn lost_many(&self) {
        self.mass_losses.fetch_add(1, Ordering::Relaxed);
    }

    /// A call waits.
    pub(super) fn queue(&self) -> Queued<'_> {
        self.queued.fetch_add(1, Ordering::Relaxed);
        Queued(&self.queued)
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

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn mass_losses(&self) -> u64 {
        self.mass_losses.load(Ordering::Relaxed)
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}
