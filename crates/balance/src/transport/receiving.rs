//! A response that is under way: data as it comes, then trailers that tell the status.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use tokio::time::Instant;

use super::{Held, MessageLimit, REPLAY_BUFFER};
use crate::{
    outlier::Ended,
    status::{Code, GRPC_STATUS, Status},
};

/// A small share of a stream's window, so that the server never waits for its reader to be told of.
const RELEASE_AT: usize = 64 << 10;
/// About how much of an answer is kept back until it is whole: as much as is kept of a request to send it again.
const KEPT: usize = REPLAY_BUFFER;

pub(crate) struct Receiving {
    stream: RecvStream,
    /// Whether the status was in the headers: then no trailers are to come.
    trailers_only: bool,
    messages: Messages,
    /// What the reader has taken and the server was not told of.
    unreleased: usize,
    /// What was read before anybody asked for it; mostly one piece, and no more.
    first: Option<Bytes>,
    more: Option<Box<Pieces>>,
    /// Whether that is all data: h2 takes long to say so again.
    read: bool,
}

#[derive(Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    /// What they take: their bytes, and for each what holds it.
    size: usize,
}

/// What the messages of a response may be, and what was wrong with the one that was refused.
#[derive(Debug, Default)]
pub(crate) enum Messages {
    #[default]
    OfAnySize,
    Limited(MessageLimit),
    Refused(Status),
}

/// What comes next of a response.
pub(crate) enum Next {
    Data(Bytes),
    /// The end, and the trailers to tell it by where the headers have not.
    End(Option<HeaderMap>),
}

impl Receiving {
    /// What comes on a stream after its headers; `trailers_only` says that the status was in these.
    pub(crate) fn new(stream: RecvStream, trailers_only: bool, messages: Messages) -> Self {
        Self {
            stream,
            trailers_only,
            messages,
            unreleased: 0,
            first: None,
            more: None,
            read: false,
        }
    }

    /// Reads on until all data has come, after which h2 has what trailers there are, or until more has come than is kept back. An
    /// error is how the stream broke off, which whoever reads on instead is told after what was read. To be asked before anything else.
    pub(crate) fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.trailers_only {
            return Poll::Ready(Ok(()));
        }
        while let Some(data) = ready!(self.stream.poll_data(cx)?) {
            if self.first.is_none() {
                self.first = Some(data);
                continue;
            }
            let first = self.first.as_ref().map_or(0, Bytes::len);
            let more = self.more.get_or_insert_default();
            more.size += data.len() + size_of::<Bytes>();
            more.pieces.push_back(data);
            if first + more.size > KEPT {
                return Poll::Ready(Ok(()));
            }
        }
        self.read = true;
        Poll::Ready(Ok(()))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let kept = self.first.take().or_else(|| {
            let more = self.more.as_mut()?;
            more.pieces.pop_front()
        });
        match kept {
            Some(data) => Poll::Ready(Some(Ok(data))),
            None if self.read => Poll::Ready(None),
            None => self.stream.poll_data(cx),
        }
    }

    /// What comes next for the attempt that holds `held`.
    pub(crate) fn poll_next(&mut self, held: &mut Held, cx: &mut Context<'_>) -> Poll<Next> {
        if let Messages::Refused(status) = &self.messages {
            return Poll::Ready(Next::End(Some(status.to_trailers())));
        }
        match ready!(self.poll_data(cx)) {
            Some(Ok(data)) => {
                self.taken(data.len());
                held.measured().received(&data);
                let next = self.messages.pass(data, held.peer());
                if let (Next::End(_), _) | (_, Messages::Refused(_)) = (&next, &self.messages) {
                    held.measured()
                        .ended(Code::ResourceExhausted, Instant::now());
                }
                Poll::Ready(next)
            }
            Some(Err(error)) => Poll::Ready(broken(held, &error)),
            None => self.poll_trailers(held, cx),
        }
    }

    /// The reader has taken so much: the server may send as much again. It is told now and then, and need not be told at the
    /// end.
    fn taken(&mut self, length: usize) {
        self.unreleased += length;
        if self.unreleased >= RELEASE_AT {
            // An error means that the stream is over.
            let _ = self
                .stream
                .flow_control()
                .release_capacity(std::mem::take(&mut self.unreleased));
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.trailers_only && self.stream.is_end_stream()
    }

    fn poll_trailers(&mut self, held: &mut Held, cx: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(mut trailers)) => {
                if let Some(refused) = held.refuse_trailers(&trailers) {
                    return Poll::Ready(Next::End(Some(refused.to_trailers())));
                }
                let peer = held.peer();
                // Nearly always it is the only one: to look costs less than to ask the map.
                let told = match (trailers.len(), trailers.iter().next()) {
                    (1, Some((name, value))) if *name == GRPC_STATUS => {
                        Status::told_by(peer, value)
                    }
                    _ => Status::told(peer, &mut trailers),
                };
                match told {
                    Ok(code) => {
                        let overdue = held.answered(code, &trailers);
                        let overdue = overdue.map(|overdue| overdue.to_trailers());
                        Next::End(Some(overdue.unwrap_or(trailers)))
                    }
                    Err(status) => refused(held, &status),
                }
            }
            Ok(None) if self.trailers_only => Next::End(None),
            Ok(None) => {
                let message = format!("{}: the stream ended without a status", held.peer());
                refused(held, &Status::new(Code::Internal, message))
            }
            Err(error) => broken(held, &error),
        })
    }
}

fn broken(held: &mut Held, error: &h2::Error) -> Next {
    if let Some(status) = held.upload_failure() {
        // A request that could not be produced has ended the stream by itself; the endpoint did not fail.
        held.given_up(status.code);
        return Next::End(Some(status.to_trailers()));
    }
    let status = Status::from_h2(held.peer(), error);
    refused(held, &status)
}

/// What came is no end of a call.
fn refused(held: &mut Held, status: &Status) -> Next {
    held.ended(Ended::Broken(status.code));
    Next::End(Some(status.to_trailers()))
}

impl Messages {
    /// What its reader gets of some data: the messages before the first that is too large, and then the end.
    fn pass(&mut self, mut data: Bytes, peer: &str) -> Next {
        let Self::Limited(limit) = self else {
            return Next::Data(data);
        };
        let Err(too_large) = limit.follow(&data) else {
            return Next::Data(data);
        };
        let status = too_large.in_response(peer);
        if too_large.before == 0 {
            return Next::End(Some(status.to_trailers()));
        }
        *self = Self::Refused(status);
        data.truncate(too_large.before);
        Next::Data(data)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, MessageLimit, Messages, Next};
    use crate::status::{Code, Status};

    fn limited() -> Messages {
        Messages::Limited(MessageLimit::new(3))
    }

    fn refusal(next: Next) -> Status {
        match next {
            Next::End(Some(trailers)) => {
                Status::from_headers(Code::in_headers(&trailers).expect("a status"), &trailers)
            }
            Next::End(None) => panic!("no status"),
            Next::Data(data) => panic!("{data:?} passed"),
        }
    }

    #[test]
    fn messages_before_one_that_is_too_large_reach_their_reader() {
        let mut messages = limited();
        let data = Bytes::from_static(b"\0\0\0\0\x03two\0\0\0\0\x04four");
        let Next::Data(passed) = messages.pass(data, "peer") else {
            panic!("the first message is small enough");
        };
        assert_eq!(passed, b"\0\0\0\0\x03two".as_slice());
        let Messages::Refused(status) = messages else {
            panic!("the second is too large");
        };
        assert_eq!(status.code, Code::ResourceExhausted);
    }

    #[test]
    fn a_message_that_is_too_large_ends_the_response_and_says_both_sizes() {
        let status = refusal(limited().pass(Bytes::from_static(b"\0\0\0\0\x04"), "peer"));
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(
            status.message,
            "peer: a response message of 4 bytes is larger than the 3 that maxResponseMessageBytes allows"
        );
    }
}
