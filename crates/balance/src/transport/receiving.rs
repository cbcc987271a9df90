//! A response that is under way: data as it comes, then trailers that tell the status.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::{Stream, Upload};
use crate::{
    load::InFlight,
    status::{Code, Status},
};

pub(crate) struct Receiving {
    pub(crate) stream: RecvStream,
    pub(crate) peer: Arc<str>,
    /// Whether the status was in the headers: then no trailers are to come.
    pub(crate) trailers_only: bool,
    pub(crate) held: Held,
}

/// What a call holds until it ends; only its drop matters.
pub(crate) struct Held {
    pub(crate) _upload: Upload,
    pub(crate) stream: Stream,
    pub(crate) in_flight: InFlight,
}

/// What comes next of a response.
pub(super) enum Next {
    Data(Bytes),
    /// The end, and the trailers to tell it by where the headers have not.
    End(Option<HeaderMap>),
}

impl Receiving {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // The reader has taken it: the server may send as much again. An error means that the stream is over.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Next::Data(data))
            }
            Some(Err(error)) => Poll::Ready(self.ended(Some(self.broken(&error)))),
            None => self.poll_trailers(cx),
        }
    }

    /// The end; what it tells is counted, unless the headers have told it already.
    fn ended(&self, trailers: Option<HeaderMap>) -> Next {
        if let Some(trailers) = &trailers {
            let code = Code::in_headers(trailers).unwrap_or(Code::Unknown);
            self.held.in_flight.ended(code);
        }
        Next::End(trailers)
    }

    pub(super) fn is_end(&self) -> bool {
        self.trailers_only && self.stream.is_end_stream()
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let trailers = match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Some(trailers),
            Ok(None) if self.trailers_only => None,
            Ok(None) => {
                let message = format!("{}: the stream ended without a status", self.peer);
                Some(Status::new(Code::Internal, message).to_trailers())
            }
            Err(error) => Some(self.broken(&error)),
        };
        Poll::Ready(self.ended(trailers))
    }

    fn broken(&self, error: &h2::Error) -> HeaderMap {
        Status::from_h2(&self.peer, error).to_trailers()
    }
}
