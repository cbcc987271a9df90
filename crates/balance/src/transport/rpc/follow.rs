//! A call that is kept open for as long as its connection is: what health checks and load reports have in common.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use registry::{Backoff, BackoffPolicy};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{Head, Messages, framing::framed};
use crate::{
    status::{Code, Status},
    transport::Connection,
};

/// A streaming call to be made on any number of connections.
#[derive(Debug)]
pub(crate) struct Subscription {
    head: Head,
    path: &'static str,
    request: Bytes,
    backoff: BackoffPolicy,
}

/// What a subscription comes to.
#[derive(Debug)]
pub(crate) enum Event<M> {
    Message(M),
    /// The call has ended, and is made again.
    Ended(Status),
}

/// Why a subscription is over.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The server does not have the method, and says so with this.
    Unimplemented(Status),
    /// The connection takes no more calls.
    Closed,
}

impl Subscription {
    /// Calls `path` with `request`, and again by `backoff` when a call ends.
    pub(crate) fn new(
        head: Head,
        path: &'static str,
        request: &impl Message,
        backoff: BackoffPolicy,
    ) -> Self {
        Self {
            head,
            path,
            request: framed(request),
            backoff,
        }
    }

    /// Tells `on` what comes, until the connection takes no more calls or the server turns out not to have the method.
    ///
    /// A call that ends is made again (gRFC A17, and A51 in the same words): after the backoff, which a message resets. So
    /// that no server can have itself called without a pause, the backoff counts from the call's beginning, and is not
    /// left out after a message: a call that was open for longer than that is made again at once, as the gRFCs say.
    ///
    /// Dropping the future cancels the call.
    pub(crate) async fn follow<M: Message + Default>(
        &self,
        connection: &Arc<Connection>,
        mut on: impl FnMut(Event<M>),
    ) -> Stopped {
        let following = async {
            let mut backoff = Backoff::new(self.backoff);
            loop {
                let began = Instant::now();
                let told = |message| {
                    backoff.reset();
                    on(Event::Message(message));
                };
                let status = self.call(connection, told).await;
                if status.code == Code::Unimplemented {
                    return Stopped::Unimplemented(status);
                }
                if !connection.is_open() {
                    return Stopped::Closed;
                }
                on(Event::Ended(status));
                sleep_until(began + backoff.next_delay()).await;
            }
        };
        select! {
            biased;
            () = connection.closed() => Stopped::Closed,
            stopped = following => stopped,
        }
    }

    /// Makes the call once, until its end.
    async fn call<M: Message + Default>(
        &self,
        connection: &Arc<Connection>,
        mut on: impl FnMut(M),
    ) -> Status {
        let request = self.request.clone();
        let mut messages = match Messages::open(connection, &self.head, self.path, request).await {
            Ok(messages) => messages,
            Err(status) => return status,
        };
        loop {
            match messages.next().await {
                Ok(message) => on(message),
                Err(status) => return status,
            }
        }
    }
}
