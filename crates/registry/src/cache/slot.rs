//! When the file of one service is read, and how often it is written.

use std::{future::pending, time::Duration};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};

use super::{Cache, Kept};
use crate::ServiceName;

/// How long a disk may take to give what was kept.
const READ: Duration = Duration::from_secs(1);
/// How often a file is written at the most.
const EACH: Duration = Duration::from_secs(1);
/// The share of the time that is spent on writing, at the most, is one in so many.
const SHARE: u32 = 20;

/// What is kept of one service; nothing where there is no cache.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    cache: Option<(Cache, ServiceName)>,
    writing: Option<JoinHandle<Duration>>,
    has_changed: bool,
    next: Instant,
    kept: std::marker::PhantomData<fn() -> T>,
}

impl<T: Kept> Slot<T> {
    /// That of a service.
    pub(crate) fn new(cache: Option<Cache>, service: ServiceName) -> Self {
        Self {
            cache: cache.map(|cache| (cache, service)),
            writing: None,
            has_changed: false,
            next: Instant::now(),
            kept: std::marker::PhantomData,
        }
    }

    /// What was kept last. What cannot be used is ignored, with a warning.
    pub(crate) async fn load(&self) -> Option<T> {
        let (cache, service) = self.cache.as_ref()?;
        let file = cache.file(service);
        let path = file.path().display().to_string();
        let read = timeout(READ, spawn_blocking(move || file.read())).await;
        let read = read.unwrap_or(Ok(Err("the disk does not answer".into())));
        read.unwrap_or_else(|panicked| Err(panicked.to_string()))
            .unwrap_or_else(|reason| {
                tracing::warn!(path, reason, "ignoring what was kept of a service");
                None
            })
    }

    /// What is known is not what was kept.
    pub(crate) fn now_differs(&mut self) {
        self.has_changed = true;
    }

    /// Waits until it is time to [write](Self::write); for ever when there is nothing to be written. Cancellation safe.
    pub(crate) async fn is_due(&mut self) {
        if self.cache.is_none() || !self.has_changed {
            pending::<()>().await;
        }
        if let Some(writing) = &mut self.writing {
            let took = writing.await.unwrap_or_default();
            self.writing = None;
            self.next = self.next.max(Instant::now() + took * SHARE);
        }
        sleep_until(self.next).await;
    }

    /// Keeps this, in the background.
    pub(crate) fn write(&mut self, known: T) {
        let Some((cache, service)) = &self.cache else {
            return;
        };
        self.has_changed = false;
        self.next = Instant::now() + EACH;
        let (cache, file) = (cache.clone(), cache.file(service));
        self.writing = Some(spawn_blocking(move || {
            let started = Instant::now();
            cache.note(file.write(&known));
            started.elapsed()
        }));
    }
}
