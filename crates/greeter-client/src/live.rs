//! What the callers have counted so far, for whoever watches. A caller takes a lock of its own for it, ten times a second.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::counts::Counts;

/// What all callers have counted so far, a tenth of a second behind them at most.
#[derive(Debug)]
pub(crate) struct Live {
    by_caller: Vec<Mutex<Counts>>,
}

impl Live {
    /// How far it may be behind: often enough for the eye, and nothing beside the calls made meanwhile.
    pub(crate) const LAG: Duration = Duration::from_millis(100);

    pub(crate) fn new(callers: usize) -> Self {
        let mut by_caller = Vec::new();
        by_caller.resize_with(callers, Mutex::default);
        Self { by_caller }
    }

    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in &self.by_caller {
            total.merge(&counts.lock().unwrap_or_else(PoisonError::into_inner));
        }
        total
    }

    /// Puts `counts` in the place of what `caller` had counted before.
    pub(crate) fn publish(&self, caller: usize, counts: &Counts) {
        let mut published = self.by_caller[caller]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.clone_from(counts);
    }
}
