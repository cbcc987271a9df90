//! From the published picker to an endpoint for one attempt.

use std::{sync::Arc, time::Duration};

use tokio::{select, sync::watch, task::consume_budget, time::sleep};

use super::{Published, Shared};
use crate::{
    endpoint::Endpoint,
    options::Affinity,
    policy::{CallInfo, Pick, Why},
    status::Status,
    subchannel::ConnectivityState,
    transport::Stream,
};

/// How often a picker is asked again when the call avoids what it picked.
const PICKS: usize = 32;

/// A call that waits for one endpoint's stream looks after so long whether another has one by now, and then after twice that
/// each time, so that it waits hardly longer than it has to and many that wait keep nobody busy.
const LOOKS_ELSEWHERE: Duration = Duration::from_millis(5);
const LOOKS_AT_LEAST_EACH: Duration = Duration::from_millis(500);

/// An endpoint, and a stream on one of its connections.
pub(super) struct Picked {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) stream: Stream,
    pub(super) why: Why,
}

/// What a look at the picker gives.
enum Choice {
    Picked(Picked),
    /// Nothing better than this one, whose streams are all in use.
    Wait(Arc<Endpoint>),
    /// Nothing better than this one, which is ready no more, or is silent.
    Lost(Arc<Endpoint>),
    NextPicker,
    Fail(Status),
    Drop(Status),
}

/// Why there is no endpoint for an attempt.
pub(super) enum Unpicked {
    /// None can be had just now: the attempt has failed.
    Failed(Status),
    /// There is to be none, so that the call has failed.
    Dropped(Status),
}

fn is_usable(endpoint: &Arc<Endpoint>) -> bool {
    endpoint.subchannel().is_usable()
}

impl Published {
    /// The endpoint that the call is bound to, if it can be had now.
    fn bound(&self, call: &CallInfo<'_>, Affinity(id): &Affinity) -> Option<Picked> {
        let by_id = |endpoint: &Arc<Endpoint>| endpoint.instance().id.cmp(id);
        let endpoint = &self.endpoints[self.endpoints.binary_search_by(by_id).ok()?];
        let remark = self.remarks.get(&endpoint.serial());
        if call.avoids(endpoint) || remark.is_some_and(|remark| remark.shunned) {
            return None;
        }
        Some(Picked {
            stream: endpoint.subchannel().try_stream()?,
            endpoint: Arc::clone(endpoint),
            why: Why::Affinity,
        })
    }

    /// An endpoint with a free stream, if there is one now.
    pub(super) fn pick_now(&self, call: &CallInfo<'_>) -> Option<Picked> {
        match self.choose(call) {
            Choice::Picked(picked) => Some(picked),
            _ => None,
        }
    }

    fn choose(&self, call: &CallInfo<'_>) -> Choice {
        if let Some(picked) = call.affinity.and_then(|to| self.bound(call, to)) {
            return Choice::Picked(picked);
        }
        let mut call = *call;
        let mut second_best = None;
        // A connection that has died is in the picker until the driver's next turn: it is passed over here, the moment
        // that its socket dies.
        for _ in 0..self.endpoints.len().clamp(1, PICKS) {
            match self.picker.pick(&call) {
                Pick::Ready(endpoint) => {
                    if !call.avoids(endpoint)
                        && let Some(stream) = endpoint.subchannel().try_stream()
                    {
                        return Choice::Picked(Picked {
                            endpoint: Arc::clone(endpoint),
                            stream,
                            why: Why::Policy,
                        });
                    }
                    if !second_best.as_ref().is_some_and(is_usable) {
                        second_best = Some(Arc::clone(endpoint));
                    }
                    call.repeated = true;
                }
                Pick::Connect(endpoint) => {
                    endpoint.subchannel().connect();
                    return Choice::NextPicker;
                }
                Pick::Queue => return Choice::NextPicker,
                Pick::Fail(status) => return Choice::Fail(status.clone()),
                Pick::Drop(status) => return Choice::Drop(status.clone()),
            }
        }
        let Some(endpoint) = second_best else {
            return Choice::NextPicker;
        };
        if let Some(stream) = endpoint.subchannel().try_any_stream() {
            return Choice::Picked(Picked {
                endpoint,
                stream,
                why: Why::NothingBetter,
            });
        }
        if is_usable(&endpoint) {
            Choice::Wait(endpoint)
        } else {
            Choice::Lost(endpoint)
        }
    }
}

impl Shared {
    /// Waits for an endpoint with a free stream. Fails at once where none can be had, unless the call waits for ready.
    ///
    /// Cancellation safe; the caller bounds it by the call's deadline.
    pub(super) async fn pick(
        &self,
        call: &CallInfo<'_>,
        wait_for_ready: bool,
    ) -> Result<Picked, Unpicked> {
        let _queued = self.stats.queue();
        let mut generation = self.generation.subscribe();
        loop {
            let choice = self.published.load().choose(call);
            match choice {
                Choice::Picked(picked) => return Ok(picked),
                Choice::Wait(endpoint) => {
                    if let Some(picked) = self.wait(endpoint, call, &mut generation).await? {
                        return Ok(picked);
                    }
                    continue;
                }
                Choice::Lost(endpoint) => {
                    select! {
                        _next_picker = generation.changed() => {}
                        () = Box::pin(endpoint.subchannel().usable_again()) => {}
                    }
                    continue;
                }
                Choice::Drop(status) => return Err(Unpicked::Dropped(status)),
                Choice::Fail(status) if !wait_for_ready => {
                    // A caller that tries again at once would otherwise never let its thread go.
                    consume_budget().await;
                    return Err(Unpicked::Failed(status));
                }
                Choice::Fail(_) | Choice::NextPicker => {}
            }
            // Only who is idle has to be told: to tell others would make them publish anew, and wake all who wait here.
            if *self.state.borrow() == ConnectivityState::Idle {
                self.called.notify_one();
            }
            next_picker(&mut generation).await?;
        }
    }

    /// Waits for a stream of an endpoint, and keeps its place there while it looks whether there is one elsewhere by now;
    /// `None` when the endpoint has none to wait for.
    async fn wait(
        &self,
        endpoint: Arc<Endpoint>,
        call: &CallInfo<'_>,
        generation: &mut watch::Receiver<()>,
    ) -> Result<Option<Picked>, Unpicked> {
        // Boxed, because few calls wait, and every call would have to have room for it.
        let mut stream = Box::pin(endpoint.subchannel().stream());
        let mut patience = LOOKS_ELSEWHERE;
        loop {
            select! {
                biased;
                stream = &mut stream => {
                    let endpoint = Arc::clone(&endpoint);
                    let why = Why::StreamFreed;
                    return Ok(stream.map(|stream| Picked { endpoint, stream, why }));
                }
                next = next_picker(generation) => next?,
                () = sleep(patience) => patience = (2 * patience).min(LOOKS_AT_LEAST_EACH),
            }
            if let Some(picked) = self.published.load().pick_now(call) {
                return Ok(Some(picked));
            }
        }
    }

    /// Why no endpoint can be had just now, for a message.
    pub(super) fn why_none(&self, call: &CallInfo<'_>) -> String {
        match self.published.load().picker.pick(call) {
            Pick::Fail(status) | Pick::Drop(status) => status.message.to_string(),
            Pick::Queue | Pick::Connect(_) | Pick::Ready(_) => {
                format!("the channel is {}", *self.state.borrow())
            }
        }
    }
}

/// Waits until another picker is published. Cancellation safe.
async fn next_picker(generation: &mut watch::Receiver<()>) -> Result<(), Unpicked> {
    let gone = |_| Unpicked::Dropped(Status::unavailable("the channel was shut down"));
    generation.changed().await.map_err(gone)
}
