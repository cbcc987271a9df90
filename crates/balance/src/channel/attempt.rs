//! One attempt of a call, which goes elsewhere by itself as long as no application has seen it.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use registry::Cause;

use super::{Shared, admission::Admitted, call::Call, pick::Picked};
use crate::{
    options::ServedBy,
    outlier::Ended,
    retry::Failure,
    status::{Code, Status},
    telemetry::MeasuredCall,
    transport::{Deadline, Held, Messages, NotOpened, Receiving, RequestBody, ResponseBody},
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
        call: &Call,
        body: &RequestBody<B>,
        previous: u32,
    ) -> Result<Outcome, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        loop {
            call.is_queued(true);
            let tried = call.tried();
            let to = self.pick(&call.info(&tried), call.wait_for_ready).await?;
            call.is_queued(false);
            let endpoint = to.endpoint.serial();
            let hedged = call.is_hedged();
            if hedged {
                call.goes_to(endpoint);
            }
            let outcome = match call.send(to, body, previous).await {
                Sent::NeverLeft => continue,
                Sent::Ended(answered @ Outcome::Answered(_)) => return Ok(answered),
                Sent::Ended(failed) => Some(failed),
                Sent::Unprocessed(_) if body.is_replayable() && call.transparently() => {
                    call.measured.retried_transparently();
                    None
                }
                Sent::Unprocessed(status) => Some(Outcome::Failed(status.into(), None)),
            };
            if !hedged {
                call.goes_to(endpoint);
            }
            if let Some(failed) = outcome {
                return Ok(failed);
            }
        }
    }
}

impl Call {
    async fn send<B>(
        &self,
        Picked { endpoint, stream }: Picked,
        body: &RequestBody<B>,
        previous: u32,
    ) -> Sent
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let (response, send) = match stream.open(self.head.request(self.until, previous)) {
            Ok(opened) => opened,
            Err(NotOpened::ConnectionClosed) => return Sent::NeverLeft,
            Err(NotOpened::BadRequest(error)) => {
                let status = Status::from_h2(stream.connection().peer(), &error);
                return Sent::Ended(Outcome::Failed(status.into(), None));
            }
        };
        let measured = self.measured.attempt();
        let counted = measured.sending();
        let throttle = self.throttle.clone();
        let mut held = Held::new(stream, endpoint, self.until, throttle, measured);
        let sending = self.next_sending();
        match body.send(send, sending, counted) {
            Ok(upload) => held.upload(upload),
            Err(error) => return unanswered(held, &error),
        }
        match response.await {
            Ok(response) => Sent::Ended(answered(response, sending, held)),
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

fn answered(response: http::Response<RecvStream>, sending: u32, mut held: Held) -> Outcome {
    let (mut parts, stream) = response.into_parts();
    let content = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc = content.is_some_and(|value| value.starts_with(b"application/grpc"));
    let code = match Status::told_in(held.peer(), &parts.headers) {
        Ok(code) => code,
        Err(status) => {
            held.ended(Ended::Broken(status.code));
            return Outcome::Failed(status.into(), None);
        }
    };
    match code {
        Some(code) => held.answered(code, &parts.headers),
        None if parts.status != StatusCode::OK || !is_grpc => {
            held.ended(Ended::NotGrpc(parts.status));
            let status = Status::from_http(held.peer(), parts.status);
            return Outcome::Failed(status.into(), None);
        }
        None => {}
    }
    parts
        .extensions
        .insert(ServedBy(Arc::clone(held.endpoint().instance())));
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
            held: self.held,
            _admitted: admitted,
        };
        let body = ResponseBody::new(receiving, deadline);
        http::Response::from_parts(self.head, body)
    }
}
