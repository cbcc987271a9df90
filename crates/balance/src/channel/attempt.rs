//! One attempt of a call, which goes elsewhere by itself as long as no application has seen it.

use std::mem;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::{RecvStream, client};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{
    Shared,
    call::{Call, Progress},
    pick::Picked,
};
use crate::{
    outlier::Ended,
    policy::CallInfo,
    retry::Failure,
    status::{Code, GRPC_STATUS, Status},
    transport::{Held, NotOpened, RequestBody, metadata, rpc},
};

/// What came of an attempt.
pub(super) enum Outcome {
    /// The server answers, and the call is committed to it; or the answer is final.
    Answered(Answer),
    /// The attempt failed before it was committed to. The answer, when there was one, is what the caller gets unless
    /// there is another attempt.
    Failed(Failure, Option<Answer>),
}

/// What came of sending the request once.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for an instant, and nearly always it is the large one"
)]
pub(super) enum Sent {
    /// It never left: it goes elsewhere, as often as need be.
    NeverLeft,
    /// The server says that no application has seen it: it goes elsewhere, once.
    Unprocessed(Status),
    Ended(Outcome),
}

/// How an attempt begins.
#[derive(Default)]
pub(super) enum First {
    /// With a request that is put together for it.
    #[default]
    Anew,
    /// With the caller's own request.
    Request(http::Request<()>),
    /// The request was sent to the endpoint of that serial already.
    Sent(u64, Sent),
}

/// A request that is on its way.
pub(super) struct Attempt {
    pub(super) response: client::ResponseFuture,
    pub(super) held: Held,
    sending: u32,
}

/// What a request got that was sent, where the call is not to be committed to it.
pub(super) enum Unsettled {
    /// The answer, when there was one, is what the caller gets unless there is another attempt.
    Failed(Failure, Option<Responded>),
    Unprocessed(Status),
}

/// A response of gRPC's, or at least of HTTP's.
pub(super) struct Responded {
    pub(super) response: http::Response<RecvStream>,
    /// Whether the status is in the headers already.
    pub(super) trailers_only: bool,
}

/// A response, and what its body needs.
pub(super) struct Answer {
    pub(super) responded: Responded,
    pub(super) held: Held,
    /// Which sending of the request it answers.
    sending: u32,
}

impl Shared {
    /// Makes an attempt, after `previous` others. An error is what there is to say when there is no endpoint to try.
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
                    let to = self
                        .endpoint_for(info, call.waits_for_ready(), progress)
                        .await?;
                    let endpoint = to.endpoint.serial();
                    if hedged {
                        progress.goes_to(endpoint);
                    }
                    let now = Instant::now();
                    call.tell(&mut request, now, previous);
                    let sent = match call.start(request, progress, to, body, since, now) {
                        Ok(attempt) => attempt.settled(body).await,
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
                Sent::Unprocessed(status) => Some(Outcome::Failed(status.into(), None)),
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
    ) -> Result<Picked, Status> {
        if let Some(picked) = self.published.load().pick_now(&call) {
            return Ok(picked);
        }
        progress.is_queued(true);
        let picked = self.pick(&call, wait_for_ready).await?;
        progress.is_queued(false);
        Ok(picked)
    }
}

impl Call {
    /// Sends a request to that endpoint, as far as it is there, in an attempt that was begun at `since`; an error is what came
    /// of it at once.
    pub(super) fn start<B>(
        &self,
        request: http::Request<()>,
        progress: &Progress,
        Picked { endpoint, stream }: Picked,
        body: &RequestBody<B>,
        since: Instant,
        now: Instant,
    ) -> Result<Attempt, Box<Sent>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        if self.head.has_metadata()
            && let Some(refused) = stream.refuse(&request)
        {
            let failed = Outcome::Failed(refused.into(), None);
            return Err(Box::new(Sent::Ended(failed)));
        }
        let (response, send) = match stream.open(request) {
            Ok(opened) => opened,
            Err(NotOpened::ConnectionClosed | NotOpened::HeldBack) => {
                return Err(Box::new(Sent::NeverLeft));
            }
            Err(NotOpened::BadRequest(error)) => {
                let status = Status::from_h2(stream.connection().peer(), &error);
                let failed = Outcome::Failed(status.into(), None);
                return Err(Box::new(Sent::Ended(failed)));
            }
        };
        let measured = progress.measured.attempt(&endpoint, since);
        let counted = measured.sending();
        let throttle = self.throttle.clone();
        let mut attempt = Attempt {
            response,
            held: Held::new(stream, endpoint, now, self.timeout, throttle, measured),
            sending: progress.next_sending(),
        };
        match body.send(send, attempt.sending, counted) {
            Ok(upload) => {
                attempt.held.upload(upload);
                Ok(attempt)
            }
            // The stream was over before the request was on it: its response says why.
            Err(error) => {
                let response = (&mut attempt.response).now_or_never();
                Err(Box::new(
                    attempt.ended(response.unwrap_or(Err(error)), body),
                ))
            }
        }
    }
}

impl Attempt {
    async fn settled<B>(mut self, body: &RequestBody<B>) -> Sent
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let response = (&mut self.response).await;
        self.ended(response, body)
    }

    fn ended<B>(
        mut self,
        response: Result<http::Response<RecvStream>, h2::Error>,
        body: &RequestBody<B>,
    ) -> Sent
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        match settle(response, &mut self.held, || body.failure()) {
            Ok(responded) => Sent::Ended(Outcome::Answered(Answer {
                responded,
                held: self.held,
                sending: self.sending,
            })),
            Err(unsettled) => unsettled.by(self.held, self.sending),
        }
    }
}

/// What a response is, or the end of a stream that had none; `unsent` is why there is no whole request.
#[inline]
pub(super) fn settle(
    response: Result<http::Response<RecvStream>, h2::Error>,
    held: &mut Held,
    unsent: impl FnOnce() -> Option<Status>,
) -> Result<Responded, Box<Unsettled>> {
    let mut response = match response {
        Ok(response) => response,
        Err(error) => return Err(Box::new(unanswered(held, &error, unsent()))),
    };
    let (verdict, trailers_only) = judge(&mut response, held);
    let responded = Responded {
        response,
        trailers_only,
    };
    let (failure, answer) = match verdict {
        Verdict::Answer => return Ok(responded),
        Verdict::Failure(failure) => (failure, Some(responded)),
        Verdict::Rubbish(status) => (status.into(), None),
    };
    Err(Box::new(Unsettled::Failed(failure, answer)))
}

/// What the head of a response says.
enum Verdict {
    Answer,
    /// A status that is one.
    Failure(Failure),
    /// What is no response of gRPC's, or is refused, or comes too late.
    Rubbish(Status),
}

impl Unsettled {
    /// The same, of the request's sending of that number, with what its attempt holds.
    pub(super) fn by(self, held: Held, sending: u32) -> Sent {
        match self {
            Self::Failed(failure, responded) => {
                let answer = responded.map(|responded| Answer {
                    responded,
                    held,
                    sending,
                });
                Sent::Ended(Outcome::Failed(failure, answer))
            }
            Self::Unprocessed(status) => Sent::Unprocessed(status),
        }
    }
}

/// Whether the head of a response has a status already, whether it is gRPC's, and its size.
fn look(headers: &HeaderMap) -> (bool, bool, usize) {
    let (mut has_status, mut is_grpc, mut size) = (false, false, 0);
    // One look at each header costs less than to ask the map for two.
    for (name, value) in headers {
        size += metadata::field(name, value);
        if *name == CONTENT_TYPE {
            is_grpc = rpc::is_grpc(value);
        } else if *name == GRPC_STATUS {
            has_status = true;
        }
    }
    (has_status, is_grpc, size)
}

/// What a response's head says, and whether it is all that there is.
fn judge(response: &mut http::Response<RecvStream>, held: &mut Held) -> (Verdict, bool) {
    let (has_status, is_grpc, size) = look(response.headers());
    if let Some(refused) = held.refuse_headers(size) {
        return (Verdict::Rubbish(refused), false);
    }
    if !has_status {
        if response.status() == StatusCode::OK && is_grpc {
            return (Verdict::Answer, false);
        }
        held.ended(Ended::NotGrpc(response.status()));
        let status = Status::from_http(held.peer(), response.status());
        return (Verdict::Rubbish(status), false);
    }
    let verdict = match Status::told(held.peer(), response.headers_mut()) {
        Err(status) => {
            held.ended(Ended::Broken(status.code));
            Verdict::Rubbish(status)
        }
        Ok(code) => match held.answered(code, response.headers()) {
            Some(overdue) => Verdict::Rubbish(overdue),
            None if code == Code::Ok => Verdict::Answer,
            None => Verdict::Failure(Failure::in_trailers(code, response.headers())),
        },
    };
    (verdict, true)
}

/// What the end of a stream means that came before any response; `unsent` is why there is no whole request.
#[cold]
fn unanswered(held: &mut Held, error: &h2::Error, unsent: Option<Status>) -> Unsettled {
    if let Some(status) = unsent {
        held.ended(Ended::ByCaller);
        return Unsettled::Failed(status.into(), None);
    }
    let status = Status::from_h2(held.peer(), error);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends with a GOAWAY just the streams above its last id, which the server will never look at.
    if refused || (error.is_go_away() && error.is_remote()) {
        held.ended(Ended::Unprocessed);
        Unsettled::Unprocessed(status)
    } else {
        held.ended(Ended::Broken(status.code));
        Unsettled::Failed(status.into(), None)
    }
}

impl Answer {
    /// Which sending of the request it answers.
    pub(super) fn sending(&self) -> u32 {
        self.sending
    }
}
