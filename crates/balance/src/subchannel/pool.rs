//! An endpoint's connections, and which of them a call gets a stream on (gRFC A105).

mod queue;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::transport::{Availability, Connection, Stream};

/// What takes calls, as the worker has published it. An empty one allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// The oldest first, which is used for as long as it has streams: so the others fall idle when there is less to do.
    members: ArcSwapOption<Vec<Member>>,
    /// Tells who waits for a stream, or for an answer, that there are other members or other states.
    changed: Notify,
    /// Calls that wait for a stream.
    waiting: AtomicUsize,
    /// Tells the worker that a call waits.
    wanted: Notify,
}

/// One of an endpoint's connections. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) connection: Arc<Connection>,
    /// Whether a stream was had while it was not the first, since that was last asked.
    used: Arc<AtomicBool>,
}

impl Member {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection: Arc::new(connection),
            // Nobody can have used it yet: it is not idle before the next look.
            used: Arc::new(AtomicBool::new(true)),
        }
    }

    pub(super) fn availability(&self) -> Availability {
        self.connection.availability()
    }

    fn is_usable(&self) -> bool {
        is_usable(self.availability())
    }

    /// Whether all its streams are in use.
    pub(super) fn is_full(&self) -> bool {
        self.connection.free_streams() == 0
    }

    /// Whether it has been without streams since this was last asked.
    pub(super) fn take_idle(&self) -> bool {
        !self.used.swap(false, Ordering::Relaxed) && self.connection.streams() == 0
    }
}

/// Whether a call may be sent to a connection at all.
pub(super) fn is_usable(availability: Availability) -> bool {
    matches!(availability, Availability::Open | Availability::Suspected)
}

impl Pool {
    /// Whether a connection takes calls, as far as is known; one that is suspected is none that should be chosen.
    pub(super) fn is_available(&self) -> bool {
        self.any(|member| member.availability() == Availability::Open)
    }

    /// Whether there is a connection that may take calls, now or when it answers.
    pub(super) fn is_connected(&self) -> bool {
        self.any(|member| member.availability() != Availability::Closed)
    }

    /// Whether a call may be sent at all, for want of something better.
    pub(super) fn is_usable(&self) -> bool {
        self.any(Member::is_usable)
    }

    fn any(&self, is_so: impl FnMut(&Member) -> bool) -> bool {
        let members = self.members.load();
        members.as_ref().is_some_and(|m| m.iter().any(is_so))
    }

    /// All of them, the oldest first.
    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        let members = self.members.load();
        let members = members.iter().flat_map(|members| members.iter());
        members.map(|m| Arc::clone(&m.connection)).collect()
    }

    /// A free stream on the first connection of that availability that has one.
    pub(super) fn try_stream(&self, wanted: Availability) -> Option<Stream> {
        let members = self.members.load();
        let mut all = members.as_ref()?.iter().enumerate();
        all.find_map(|(place, member)| {
            if member.availability() != wanted {
                return None;
            }
            let stream = member.connection.try_stream()?;
            if place > 0 {
                member.used.store(true, Ordering::Relaxed);
            }
            Some(stream)
        })
    }

    /// Whether a call waits for a stream.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits until a call does. Cancellation safe; told once of any number.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Makes these the connections that take calls, or tells that they are not what they were.
    pub(super) fn set(&self, members: Vec<Member>) {
        let members = Some(members).filter(|members| !members.is_empty());
        self.members.store(members.map(Arc::new));
        self.changed.notify_waiters();
    }

    /// Takes no more calls: those that wait for a stream are told, and those in flight finish.
    pub(super) fn retire(&self) {
        if let Some(members) = self.members.swap(None) {
            members.iter().for_each(|m| m.connection.retire());
            self.changed.notify_waiters();
        }
    }
}
