//! Where what happens to something that is followed is heard: on a watch of its own, or on one that is shared.

use std::sync::Arc;

use etcd_client::{KeyValue, WatchResponse};

use super::{
    events::Events,
    members::{Connection, Failure, Members},
    shared::Part,
};

#[derive(Debug)]
pub(super) enum Source {
    Own(Arc<Members>, Box<Events>),
    Shared(Part),
}

/// What was heard at once.
#[derive(Debug)]
pub(super) enum Heard {
    Own(WatchResponse),
    Shared(Vec<KeyValue>),
}

impl Source {
    /// The connection that it is heard on.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        match self {
            Self::Own(_, events) => events.connection(),
            Self::Shared(part) => part.connection(),
        }
    }

    /// What is heard next, which may be nothing. Cancellation safe.
    pub(super) async fn next(&mut self) -> Result<Heard, Failure> {
        match self {
            Self::Own(members, events) => match events.next().await {
                Ok(message) => Ok(Heard::Own(message)),
                Err(failure) => {
                    members.leave(events.connection(), &failure);
                    Err(failure)
                }
            },
            // Whoever runs it has left the member.
            Self::Shared(part) => part.next().await.map(Heard::Shared),
        }
    }

    /// Says that a request on its connection has failed, so that another member is used.
    pub(super) fn leave(&self, failure: &Failure) {
        match self {
            Self::Own(members, events) => members.leave(events.connection(), failure),
            Self::Shared(part) => part.leave(failure),
        }
    }
}

impl Heard {
    /// What was written or deleted, one after another.
    pub(super) fn told(&self) -> Vec<&KeyValue> {
        match self {
            Self::Own(message) => {
                let events = message.events().iter();
                events.filter_map(|event| event.kv()).collect()
            }
            Self::Shared(told) => told.iter().collect(),
        }
    }
}
