//! One attempt of a call, which goes elsewhere by itself as long as no application has seen it.

use std::{future::poll_fn, mem};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::{RecvStream, client};
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{
    Shared,
    call::{Call, Progress},
    outcome::{Answer, Failed, Outcome, Sent, cut_off, settle},
    pick::{Picked, Unpicked},
};
use crate::{
    policy::CallInfo,
    status::{Code, Status},
    transport::{Held, NotOpened, RequestBody},
};

/// How an attempt begins.
#[derive(Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "it stays where it is made; a box would be an allocation for each call"
)]
pub(super) enum First {
    /// With a request that is put together for it.
    #[default]
    Anew,
    /// With the caller's own request.
    Request(http::Request<()>),
    /// The request was sent to the endpoint of that serial already.
    Sent(u64, Sent),
}

/// A request that is to leave `now`, in an attempt that was begun at `since`.
pub(super) struct Leaving {
    pub(super) request: http::Request<()>,
    pub(super) since: Instant,
    pub(super) now: Instant,
}

/// A request that is on its way.
pub(super) struct Attempt {
    pub(super) response: client::ResponseFuture,
    sending: u32,
}

impl Shared {
    /// Makes an attempt, after `previous` others. An error is what there is to say when there is to be no other.
    ///
    /// What was refused unseen is sent again, once (A6's transparent retry); what never left always.
    pub(super) async fn attempt<B>(
        &self,
        call: &Call,
        progress: &Progress,
        body: &RequestBody<B>,
        previous: u32,
        mut first: First,
    ) -> Result<Outcome, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let hedged = call.is_hedged();
        // gRFC A66: picking is a part of the attempt.
        let mut since = Instant::now();
        loop {
            let request = match mem::take(&mut first) {
                First::Sent(endpoint, sent) => Err((endpoint, sent)),
                First::Request(request) => Ok(request),
                First::Anew => Ok(call.head.again(&self.head)),
            };
            let (endpoint, sent) = match request {
                Err(sent) => sent,
                Ok(mut request) => {
                    let tried = progress.tried();
                    let info = call.info(request.headers(), &tried);
                    let picked = self.endpoint_for(info, call.waits_for_ready(), progress);
                    let to = match picked.await {
                        Ok(to) => to,
                        Err(Unpicked::Failed(status)) => {
                            return Ok(Outcome::Failed(Failed::unsent(status)));
                        }
                        Err(Unpicked::Dropped(status)) => return Err(status),
                    };
                    let endpoint = to.endpoint.serial();
                    progress.waits_for(endpoint);
                    if hedged {
                        progress.goes_to(endpoint);
                    }
                    let now = Instant::now();
                    call.tell(&mut request, now, previous);
                    let leaving = Leaving {
                        request,
                        since,
                        now,
                    };
                    // Before the attempt, so that what it holds outlives that: the slot is free only when h2 is done with it.
                    let mut held = None;
                    let sent = match call.start(leaving, progress, to, body, &mut held) {
                        Ok(attempt) => {
                            let late = self.commits_late(call).then_some(progress);
                            attempt.settled(call, late, &mut held, body).await
                        }
                        Err(sent) => *sent,
                    };
                    (endpoint, sent)
                }
            };
            let outcome = match sent {
                Sent::NeverLeft => continue,
                Sent::Ended(answered @ Outcome::Answered(_)) => return Ok(answered),
                Sent::Ended(failed) => Some(failed),
                Sent::Unprocessed(_) if body.is_replayable() && progress.transparently() => {
                    progress.measured.retried_transparently();
                    since = Instant::now();
                    None
                }
                Sent::Unprocessed(failed) => Some(Outcome::Failed(failed)),
            };
            if !hedged {
                progress.goes_to(endpoint);
            }
            if let Some(failed) = outcome {
                return Ok(failed);
            }
        }
    }

    async fn endpoint_for(
        &self,
        call: CallInfo<'_>,
        wait_for_ready: bool,
        progress: &Progress,
    ) -> Result<Picked, Unpicked> {
        if let Some(picked) = self.published.load().pick_now(&call) {
            return Ok(picked);
        }
        progress.waits_for_an_endpoint();
        self.pick(&call, wait_for_ready).await
    }
}

impl Call {
    /// Sends a request to that endpoint, as far as it is there; what the attempt holds is put where it stays. An error is what
    /// came of it at once.
    #[inline]
    pub(super) fn start<B>(
        &self,
        Leaving {
            mut request,
            since,
            now,
        }: Leaving,
        progress: &Progress,
        Picked {
            endpoint,
            stream,
            why,
        }: Picked,
        body: &RequestBody<B>,
        place: &mut Option<Held>,
    ) -> Result<Attempt, Box<Sent>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let traced = progress
            .measured
            .trace(&endpoint, why, request.headers_mut());
        if self.head.has_metadata()
            && let Some(refused) = stream.refuse(&request)
        {
            traced.end(refused.code);
            let failed = Outcome::Failed(Failed::unsent(refused));
            return Err(Box::new(Sent::Ended(failed)));
        }
        let (response, upload) = match stream.open(request) {
            Ok(opened) => opened,
            Err(NotOpened::ConnectionClosed | NotOpened::HeldBack) => {
                traced.end(Code::Unavailable);
                return Err(Box::new(Sent::NeverLeft));
            }
            Err(NotOpened::BadRequest(error)) => {
                let status = Status::from_h2(stream.connection().peer(), &error);
                traced.end(status.code);
                let failed = Outcome::Failed(Failed::unsent(status));
                return Err(Box::new(Sent::Ended(failed)));
            }
        };
        let measured = progress.measured.attempt(&endpoint, since, traced);
        let throttle = self.throttle.clone();
        let held = Held::new(stream, endpoint, now, self.timeout, throttle, measured);
        let held = place.insert(held);
        let sending = progress.next_sending();
        let sent = held.send(body, upload, sending);
        let mut attempt = Attempt { response, sending };
        let Err(error) = sent else {
            return Ok(attempt);
        };
        // The stream was over before the request was on it: its response says why.
        let response = (&mut attempt.response).now_or_never();
        let response = response.unwrap_or(Err(error));
        Err(Box::new(attempt.ended(self, response, place.take(), body)))
    }
}

impl Attempt {
    async fn settled<B>(
        mut self,
        call: &Call,
        late: Option<&Progress>,
        held: &mut Option<Held>,
        body: &RequestBody<B>,
    ) -> Sent
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let response = (&mut self.response).await;
        let mut sent = self.ended(call, response, held.take(), body);
        if let Some(progress) = late
            && let Sent::Ended(Outcome::Answered(mut answer)) = sent
        {
            let _answering = progress.answering();
            sent = match poll_fn(|cx| answer.responded.poll_whole(cx)).await {
                Ok(()) => Sent::Ended(Outcome::Answered(answer)),
                Err(error) => {
                    let Answer {
                        responded,
                        mut held,
                        sending,
                    } = answer;
                    // It holds the stream.
                    drop(responded);
                    cut_off(&mut held, &error, body.failure()).by(held, sending)
                }
            };
        }
        sent
    }

    fn ended<B>(
        self,
        call: &Call,
        response: Result<http::Response<RecvStream>, h2::Error>,
        held: Option<Held>,
        body: &RequestBody<B>,
    ) -> Sent
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let Some(mut held) = held else {
            unreachable!("a request that is on its way has a stream");
        };
        let Self {
            response: waiting,
            sending,
        } = self;
        // It holds the stream, whose slot is not given back before.
        drop(waiting);
        match settle(response, &mut held, call.response_limit(), || {
            body.failure()
        }) {
            Ok(responded) => Sent::Ended(Outcome::Answered(Answer {
                responded,
                held,
                sending,
            })),
            Err(unsettled) => unsettled.by(held, sending),
        }
    }
}
