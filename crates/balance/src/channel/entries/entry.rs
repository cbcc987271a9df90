//! One endpoint of a channel, and how its policy is to see it.

use std::sync::Arc;

use registry::{Instance, Status};
use tokio::time::Instant;

use crate::{
    channel::{Remark, ejection::Ejected},
    endpoint::Endpoint,
    policy::Candidate,
    subchannel::{ConnectivityState, SubchannelState},
};

pub(super) struct Entry {
    candidate: Candidate,
    /// The state that the candidate was made from.
    seen: Arc<SubchannelState>,
    /// Whether the candidate was made although it is unhealthy.
    shown_unhealthy: bool,
    stale: bool,
    /// Why calls are to be kept from it although it may be connected; looked up for each picker.
    unhealthy: Option<Arc<str>>,
    /// Why the outlier detection keeps calls from it.
    ejected: Option<Ejected>,
    /// The registry has dropped it, and it serves on.
    dropped: Option<Dropped>,
}

/// Why an endpoint serves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The registry dropped it with most others.
    Lost,
    /// It says that it leaves, and so do all others.
    Drains,
}

/// How long an endpoint is held on to that takes no calls by the registry; never longer than its connection lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropped {
    pub(super) why: Why,
    pub(super) until: Instant,
    /// With so many others that are ready, it is not needed.
    pub(super) enough: usize,
}

impl Why {
    fn in_words(self) -> &'static str {
        match self {
            Self::Lost => {
                "gone from the registry, with most others at once; picked until others come"
            }
            Self::Drains => "drains; picked because nobody else is left",
        }
    }
}

impl Entry {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        let seen = endpoint.subchannel().state();
        let mut entry = Self {
            candidate: Candidate {
                endpoint,
                state: ConnectivityState::Idle,
                failure: None,
            },
            seen,
            shown_unhealthy: false,
            stale: true,
            unhealthy: None,
            ejected: None,
            dropped: None,
        };
        entry.judge();
        entry
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.candidate.endpoint
    }

    pub(super) fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// The same instance says something else of itself now: it is there, and a backoff has no reason any more.
    pub(super) fn now_says(&mut self, instance: Arc<Instance>) {
        self.dropped = None;
        if *self.endpoint().instance() != *instance {
            self.endpoint().subchannel().retry_now();
            self.endpoint().now_says(instance);
            self.judge();
        }
    }

    pub(super) fn drop_leniently(&mut self, dropped: Dropped) {
        // It is the same time that it is held on to.
        let until = self.held_until().unwrap_or(dropped.until);
        self.dropped = Some(Dropped { until, ..dropped });
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.is_some()
    }

    /// Whether it serves on although it says that it leaves.
    pub(super) fn drains(&self) -> bool {
        self.dropped
            .is_some_and(|dropped| dropped.why == Why::Drains)
    }

    pub(super) fn held_until(&self) -> Option<Instant> {
        self.dropped.map(|dropped| dropped.until)
    }

    /// A silence is no reason to let go: it may be but a caller's patience that was short, and nobody brings it back.
    pub(super) fn is_held_needlessly(&self, serving: usize, now: Instant) -> bool {
        self.dropped.is_some_and(|dropped| {
            !self.endpoint().subchannel().is_connected()
                || serving >= dropped.enough
                || dropped.until <= now
        })
    }

    pub(super) fn eject(&mut self, ejected: Option<Ejected>) {
        self.ejected = ejected;
        self.judge();
    }

    /// Looks at the subchannel's state.
    pub(super) fn refresh(&mut self) {
        let state = self.endpoint().subchannel().state();
        if !Arc::ptr_eq(&state, &self.seen) {
            self.seen = state;
            self.judge();
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.seen.connectivity == ConnectivityState::Ready && self.endpoint().is_available()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.unhealthy.is_none()
    }

    /// Makes the candidate as the policy is to see it: an unhealthy one as one that fails, unless all are to be used. Says
    /// whether its state is another now.
    pub(super) fn show(&mut self, unhealthy_too: bool) -> bool {
        if !self.stale && self.shown_unhealthy == unhealthy_too {
            return false;
        }
        let before = self.candidate.state;
        let why = self.unhealthy.as_deref().filter(|_| !unhealthy_too);
        (self.candidate.state, self.candidate.failure) = match why {
            Some(why) => (
                ConnectivityState::TransientFailure,
                Some(format!("{}: {why}", self.endpoint().instance().address()).into()),
            ),
            None => (self.seen.connectivity, self.seen.failure.clone()),
        };
        self.shown_unhealthy = unhealthy_too;
        self.stale = false;
        self.candidate.state != before
    }

    /// Decides whether it is healthy, after something has changed.
    fn judge(&mut self) {
        self.stale = true;
        self.unhealthy = if self.endpoint().instance().status == Status::NotServing {
            Some("says in the registry that it is not serving".into())
        } else {
            let reported = self.seen.unhealthy.as_ref();
            let ejected = self.ejected.as_ref().map(|ejected| &ejected.why);
            ejected.or(reported).cloned()
        };
    }

    /// What is special about it.
    pub(super) fn remark(&self, panicking: bool) -> Option<Remark> {
        Some(Remark {
            why: self.in_words(panicking)?,
            ejected: self.ejected.clone(),
            held: self.is_dropped(),
            shunned: self.unhealthy.is_some() && !panicking,
        })
    }

    fn in_words(&self, panicking: bool) -> Option<Arc<str>> {
        match (&self.unhealthy, self.dropped) {
            (Some(why), _) if panicking => {
                Some(format!("{why}; picked because too few others are healthy").into())
            }
            (Some(why), _) => Some(Arc::clone(why)),
            (None, Some(dropped)) => Some(dropped.why.in_words().into()),
            (None, None) => None,
        }
    }
}
