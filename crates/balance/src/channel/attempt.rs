//! One attempt of a call, which goes elsewhere by itself as long as no application has seen it.

use bytes::Bytes;
use futures_util::FutureExt;
use h2::RecvStream;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{
    Shared,
    admission::Admitted,
    call::{Call, Progress},
    pick::Picked,
};
use crate::{
    options::ServedBy,
    outlier::Ended,
    retry::Failure,
    status::{Code, GRPC_STATUS, Status},
    telemetry::MeasuredCall,
    transport::{
        Deadline, Held, Messages, NotOpened, Receiving, RequestBody, ResponseBody, metadata,
    },
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
enum Sent {
    /// It never left: it goes elsewhere, as often as need be.
    NeverLeft,
    /// The server says that no application has seen it: it goes elsewhere, once.
    Unprocessed(Status),
    Ended(Outcome),
}

/// A response, and what its body needs.
pub(super) struct Answer {
    head: http::response::Parts,
    stream: RecvStream,
    /// Which sending of the request it answers.
    sending: u32,
    trailers_only: bool,
    held: Held,
}

impl Shared {
    /// Makes an attempt, after `previous` others. An error is what there is to say when there is no endpoint to try.
    ///
    /// What was refused unseen is sent again, once (A6's transparent retry); what never left always.
    pub(super) async fn attempt<B>(
        &self,
        call: &mut Call,
        progress: &Progress,
        body: &RequestBody<B>,
        previous: u32,
    ) -> Result<Outcome, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let hedged = call.is_hedged();
        loop {
            call.head.restore();
            let tried = progress.tried();
            let to = if let Some(picked) = self.pick_now(&call.info(&tried)) {
                picked
            } else {
                progress.is_queued(true);
                // Boxed, because few calls wait, and every call would have to have room for it.
                let info = call.info(&tried);
                let picked = Box::pin(self.pick(&info, call.wait_for_ready)).await?;
                progress.is_queued(false);
                picked
            };
            let endpoint = to.endpoint.serial();
            if hedged {
                progress.goes_to(endpoint);
            }
            let outcome = match call.send(progress, to, body, previous).await {
                Sent::NeverLeft => continue,
                Sent::Ended(answered @ Outcome::Answered(_)) => return Ok(answered),
                Sent::Ended(failed) => Some(failed),
                Sent::Unprocessed(_) if body.is_replayable() && progress.transparently() => {
                    progress.measured.retried_transparently();
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
}

impl Call {
    async fn send<B>(
        &mut self,
        progress: &Progress,
        Picked { endpoint, stream }: Picked,
        body: &RequestBody<B>,
        previous: u32,
    ) -> Sent
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let now = Instant::now();
        let request = self.head.request(self.timeout.as_ref(), now, previous);
        if self.head.has_metadata()
            && let Some(refused) = stream.refuse(&request)
        {
            return Sent::Ended(Outcome::Failed(refused.into(), None));
        }
        let (response, send) = match stream.open(request) {
            Ok(opened) => opened,
            Err(NotOpened::ConnectionClosed) => return Sent::NeverLeft,
            Err(NotOpened::BadRequest(error)) => {
                let status = Status::from_h2(stream.connection().peer(), &error);
                return Sent::Ended(Outcome::Failed(status.into(), None));
            }
        };
        let measured = progress.measured.attempt();
        let counted = measured.sending();
        let throttle = self.throttle.clone();
        let timeout = self.timeout.as_ref();
        let mut held = Held::new(stream, endpoint, now, timeout, throttle, measured);
        let sending = progress.next_sending();
        let response = match body.send(send, sending, counted) {
            Ok(upload) => {
                held.upload(upload);
                response.await
            }
            // The stream was over before the request was on it: its response says why.
            Err(error) => response.now_or_never().unwrap_or(Err(error)),
        };
        match response {
            Ok(response) => {
                let extensions = std::mem::take(&mut self.extensions);
                Sent::Ended(answered(response, sending, held, extensions))
            }
            Err(error) => match body.failure() {
                Some(status) => {
                    held.ended(Ended::ByCaller);
                    Sent::Ended(Outcome::Failed(status.into(), None))
                }
                None => unanswered(held, &error),
            },
        }
    }
}

/// What the head of a response says of its status, when it is there already, whether it is gRPC's, and its size.
fn look(headers: &HeaderMap) -> (Option<&HeaderValue>, bool, usize) {
    let (mut status, mut is_grpc, mut size) = (None, false, 0);
    // One look at each header costs less than to ask the map for two.
    for (name, value) in headers {
        size += metadata::field(name, value);
        if *name == CONTENT_TYPE {
            is_grpc = value.as_bytes().starts_with(b"application/grpc");
        } else if *name == GRPC_STATUS {
            status = Some(value);
        }
    }
    (status, is_grpc, size)
}

fn answered(
    response: http::Response<RecvStream>,
    sending: u32,
    mut held: Held,
    mut extensions: Extensions,
) -> Outcome {
    let (mut parts, stream) = response.into_parts();
    let (status, is_grpc, size) = look(&parts.headers);
    if let Some(refused) = held.refuse_headers(size) {
        return Outcome::Failed(refused.into(), None);
    }
    let code = status.map(|value| Status::told_by(held.peer(), value));
    let code = match code.transpose() {
        Ok(code) => code,
        Err(status) => {
            held.ended(Ended::Broken(status.code));
            return Outcome::Failed(status.into(), None);
        }
    };
    match code {
        Some(code) => {
            if let Some(overdue) = held.answered(code, &parts.headers) {
                return Outcome::Failed(overdue.into(), None);
            }
        }
        None if parts.status != StatusCode::OK || !is_grpc => {
            held.ended(Ended::NotGrpc(parts.status));
            let status = Status::from_http(held.peer(), parts.status);
            return Outcome::Failed(status.into(), None);
        }
        None => {}
    }
    extensions.insert(ServedBy(held.endpoint().instance()));
    parts.extensions = extensions;
    let failure = code
        .filter(|code| *code != Code::Ok)
        .map(|code| Failure::in_trailers(code, &parts.headers));
    let answer = Answer {
        head: parts,
        stream,
        sending,
        trailers_only: code.is_some(),
        held,
    };
    match failure {
        Some(failure) => Outcome::Failed(failure, Some(answer)),
        None => Outcome::Answered(answer),
    }
}

/// What the end of a stream means that came before any response.
fn unanswered(mut held: Held, error: &h2::Error) -> Sent {
    let status = Status::from_h2(held.peer(), error);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends with a GOAWAY just the streams above its last id, which the server will never look at.
    if refused || (error.is_go_away() && error.is_remote()) {
        held.ended(Ended::Unprocessed);
        Sent::Unprocessed(status)
    } else {
        held.ended(Ended::Broken(status.code));
        Sent::Ended(Outcome::Failed(status.into(), None))
    }
}

impl Answer {
    /// Which sending of the request it answers.
    pub(super) fn sending(&self) -> u32 {
        self.sending
    }

    /// Makes it the response to a call, which is measured until it ends.
    pub(super) fn into_response(
        mut self,
        messages: Messages,
        deadline: Option<Deadline>,
        admitted: Admitted,
        call: MeasuredCall,
    ) -> http::Response<ResponseBody> {
        self.held.answers(call);
        let receiving = Receiving {
            stream: self.stream,
            trailers_only: self.trailers_only,
            messages,
            unreleased: 0,
            held: self.held,
            _admitted: admitted,
        };
        let body = ResponseBody::new(receiving, deadline);
        http::Response::from_parts(self.head, body)
    }
}
