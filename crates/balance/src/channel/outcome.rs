//! What comes of an attempt: what a response is to its call, or the end of a stream that had none.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use registry::Cause;

use crate::{
    outlier::Ended,
    retry::Failure,
    status::{Code, GRPC_STATUS, Status},
    transport::{Held, Messages, Receiving, RequestBody, metadata, rpc},
};

/// What came of an attempt.
pub(super) enum Outcome {
    /// The server answers, and the call is committed to it; or the answer is final.
    Answered(Answer),
    /// The attempt failed before it was committed to.
    Failed(Failed),
}

/// An attempt that ended without an answer that a call is to be committed to.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// What the caller gets, when there was one, unless there is another attempt.
    answer: Option<Answer>,
    /// Which sending of the request it was; 0 when the request was not sent.
    pub(super) sending: u32,
}

/// What came of sending the request once.
pub(super) enum Sent {
    /// It never left: it goes elsewhere, as often as need be.
    NeverLeft,
    /// The server says that no application has seen it: it goes elsewhere, once.
    Unprocessed(Failed),
    Ended(Outcome),
}

/// What a request got that was sent, where the call is not to be committed to it.
pub(super) enum Unsettled {
    /// The answer, when there was one, is what the caller gets unless there is another attempt.
    Failed(Failure, Option<Box<Responded>>),
    Unprocessed(Status),
}

/// A response of gRPC's, or at least of HTTP's.
pub(super) struct Responded {
    pub(super) parts: http::response::Parts,
    pub(super) rest: Receiving,
}

/// A response, and what its body needs.
pub(super) struct Answer {
    pub(super) responded: Responded,
    pub(super) held: Held,
    /// Which sending of the request it answers.
    pub(super) sending: u32,
}

/// What a response is whose messages are to be such, or the end of a stream that had none; `unsent` is why there is no whole
/// request.
#[inline]
pub(super) fn settle(
    response: Result<http::Response<RecvStream>, h2::Error>,
    held: &mut Held,
    messages: Messages,
    unsent: impl FnOnce() -> Option<Status>,
) -> Result<Responded, Box<Unsettled>> {
    let mut response = match response {
        Ok(response) => response,
        Err(error) => return Err(Box::new(unanswered(held, &error, unsent()))),
    };
    let (verdict, trailers_only) = judge(&mut response, held);
    let (parts, stream) = response.into_parts();
    let rest = Receiving::new(stream, trailers_only, messages);
    let responded = Responded { parts, rest };
    let (failure, answer) = match verdict {
        Verdict::Answer => return Ok(responded),
        Verdict::Failure(failure) => (failure, Some(Box::new(responded))),
        Verdict::Rubbish(status) => (status.into(), None),
    };
    Err(Box::new(Unsettled::Failed(failure, answer)))
}

impl Responded {
    /// Waits until it is whole, or as much of it has come as is kept back. An error is how it broke off.
    pub(super) fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.rest.poll_whole(cx)
    }
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
    /// The same, of the request's sending of that number, with what its attempt holds. It sends no more.
    pub(super) fn by(self, mut held: Held, sending: u32) -> Sent {
        held.stop_upload();
        match self {
            Self::Failed(failure, responded) => {
                let answer = responded.map(|responded| Answer {
                    responded: *responded,
                    held,
                    sending,
                });
                Sent::Ended(Outcome::Failed(Failed {
                    failure,
                    answer,
                    sending,
                }))
            }
            Self::Unprocessed(status) => Sent::Unprocessed(Failed {
                sending,
                ..Failed::unsent(status)
            }),
        }
    }
}

impl Failed {
    /// The request was not sent.
    pub(super) fn unsent(status: Status) -> Self {
        Self {
            failure: status.into(),
            answer: None,
            sending: 0,
        }
    }

    /// There is no other attempt.
    pub(super) fn conclude<B>(self, body: &RequestBody<B>) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        body.commit(self.sending);
        self.answer.ok_or(self.failure.status)
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

/// What the end of a stream means that came in the middle of an answer which no call was committed to; `unsent` is why there is no
/// whole request. The server has looked at it, whatever it says now.
#[cold]
pub(super) fn cut_off(held: &mut Held, error: &h2::Error, unsent: Option<Status>) -> Unsettled {
    let status = if let Some(unsent) = unsent {
        held.given_up(unsent.code);
        unsent
    } else {
        let status = Status::from_h2(held.peer(), error);
        held.ended(Ended::Broken(status.code));
        status
    };
    Unsettled::Failed(status.into(), None)
}

/// What the end of a stream means that came before any response; `unsent` is why there is no whole request.
#[cold]
fn unanswered(held: &mut Held, error: &h2::Error, unsent: Option<Status>) -> Unsettled {
    if let Some(status) = unsent {
        held.given_up(status.code);
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
