//! From the published picker to an endpoint for one attempt.

use tokio::task::consume_budget;

use super::Shared;
use crate::{endpoint::ReadyEndpoint, policy::Pick, status::Status, subchannel::ConnectivityState};

/// What a look at the picker gives.
enum Choice {
    Ready(ReadyEndpoint),
    Wait,
    Fail(Status),
}

impl Shared {
    /// Waits for an endpoint. Fails at once where none can be had, unless the call waits for ready.
    ///
    /// Cancellation safe; the caller bounds it by the call's deadline.
    pub(super) async fn pick(&self, wait_for_ready: bool) -> Result<ReadyEndpoint, Status> {
        if let Choice::Ready(endpoint) = self.choose() {
            return Ok(endpoint);
        }
        let mut generation = self.generation.subscribe();
        loop {
            match self.choose() {
                Choice::Ready(endpoint) => return Ok(endpoint),
                Choice::Fail(status) if !wait_for_ready => {
                    // A caller that tries again at once would otherwise never let its thread go.
                    consume_budget().await;
                    return Err(status);
                }
                Choice::Fail(_) | Choice::Wait => {}
            }
            // Only who is idle has to be told: to tell others would make them publish anew, and wake all who wait here.
            if self.published.load().state == ConnectivityState::Idle {
                self.called.notify_one();
            }
            if generation.changed().await.is_err() {
                return Err(Status::unavailable("the channel was shut down"));
            }
        }
    }

    /// Why no endpoint can be had just now, for a message.
    pub(super) fn why_none(&self) -> String {
        match self.published.load().picker.pick() {
            Pick::Fail(status) => status.message.to_string(),
            Pick::Queue | Pick::Ready(_) => format!("the channel is {}", *self.state.borrow()),
        }
    }

    fn choose(&self) -> Choice {
        let published = self.published.load();
        // A connection that has died is in the picker until the driver's next turn: it is passed over here, the moment
        // that its socket dies.
        for _ in 0..published.picker.choices().max(1) {
            match published.picker.pick() {
                Pick::Ready(endpoint) if endpoint.connection.is_open() => {
                    return Choice::Ready(endpoint.clone());
                }
                Pick::Ready(_) => {}
                Pick::Queue => return Choice::Wait,
                Pick::Fail(status) => return Choice::Fail(status.clone()),
            }
        }
        Choice::Wait
    }
}
