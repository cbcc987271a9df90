//! A call of the channel's own on one connection: one request, messages until a status.

mod follow;
mod framing;
#[cfg(test)]
pub(crate) mod peer;

use std::{future::poll_fn, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use h2::RecvStream;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use prost::Message;
use tokio::task::coop::consume_budget;

use super::{Connection, NotOpened, Stream};
use crate::status::{Code, Status};

pub(crate) use follow::{Event, Stopped, Subscription};
use framing::Framing;

pub(crate) const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What every call of a channel says, whatever its method.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    pub(crate) user_agent: HeaderValue,
}

/// One `user-agent` before another, as gRPC has them: who is nearer to the caller stands first.
pub(crate) fn before(nearer: &HeaderValue, other: &HeaderValue) -> HeaderValue {
    let both = [nearer.as_bytes(), other.as_bytes()].join(&b' ');
    HeaderValue::from_maybe_shared(Bytes::from(both)).unwrap_or_else(|_invalid| other.clone())
}

impl Head {
    /// The head of a request to that path.
    pub(crate) fn request(&self, path: PathAndQuery) -> Request<()> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).expect("all three parts are there");
        let headers = request.headers_mut();
        headers.insert(TE, TRAILERS);
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(USER_AGENT, self.user_agent.clone());
        request
    }
}

/// The messages of one call as they come. It holds one of the connection's streams; dropping it cancels the call.
pub(crate) struct Messages<M> {
    stream: RecvStream,
    framing: Framing,
    /// The status that came in the headers: then no message comes.
    ended: Option<Status>,
    right: Stream,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Messages<M> {
    /// Makes a call with one request, which is framed already, and waits until the server begins to answer.
    ///
    /// The wait has no bound of its own, since a server may have nothing to say for long. Dropping the future cancels the
    /// call.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        head: &Head,
        path: &'static str,
        request: Bytes,
    ) -> Result<Self, Status> {
        let peer = connection.peer();
        let closed = || Status::unavailable(format!("{peer}: takes no more calls"));
        let broken = |error: h2::Error| Status::from_h2(peer, &error);
        let right = connection.stream().await.ok_or_else(closed)?;
        let opened = right.open(head.request(PathAndQuery::from_static(path)));
        let (response, mut upload) = opened.map_err(|not_opened| match not_opened {
            NotOpened::ConnectionClosed | NotOpened::HeldBack => closed(),
            NotOpened::BadRequest(error) => broken(error),
        })?;
        upload.send_data(request, true).map_err(broken)?;
        let (head, stream) = response.await.map_err(broken)?.into_parts();
        Ok(Self {
            ended: begins(&Response::from_parts(head, ()), peer)?,
            stream,
            framing: Framing::default(),
            right,
            message: PhantomData,
        })
    }

    /// The next message, or the status that the call has ended with, which may be OK. Cancellation safe. After the end
    /// there is nothing more to ask.
    pub(crate) async fn next(&mut self) -> Result<M, Status> {
        if let Some(ended) = self.ended.take() {
            return Err(ended);
        }
        loop {
            // A server that sends without a pause leaves room for what else runs here.
            consume_budget().await;
            let framed = self.framing.next();
            if let Some(message) = framed.map_err(|why| self.refused(why.code, &why.message))? {
                return M::decode(message).map_err(|error| {
                    self.refused(Code::Internal, &format!("no such message: {error}"))
                });
            }
            match poll_fn(|cx| self.stream.poll_data(cx)).await {
                Some(Ok(data)) => {
                    // It is copied: the server may send as much again. An error means that the stream is over.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.framing.push(&data);
                }
                Some(Err(error)) => return Err(Status::from_h2(self.peer(), &error)),
                None => return Err(self.end().await),
            }
        }
    }

    async fn end(&mut self) -> Status {
        match poll_fn(|cx| self.stream.poll_trailers(cx)).await {
            Ok(Some(trailers)) => match in_headers(&trailers) {
                Some(status) if status.code == Code::Ok && !self.framing.is_empty() => {
                    self.refused(Code::Internal, "ended within a message")
                }
                Some(status) => status,
                None => self.refused(Code::Internal, "the trailers have no status"),
            },
            Ok(None) => self.refused(Code::Internal, "the stream ended without a status"),
            Err(error) => Status::from_h2(self.peer(), &error),
        }
    }

    fn peer(&self) -> &str {
        self.right.connection().peer()
    }

    fn refused(&self, code: Code, why: &str) -> Status {
        Status::new(code, format!("{}: {why}", self.peer()))
    }
}

/// Whether that content type is gRPC's: with a suffix or a parameter, and nothing else after it (grpc/grpc
/// `doc/PROTOCOL-HTTP2.md`).
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether the response is one of gRPC; and the status, when it is there at once.
fn begins(response: &Response<()>, peer: &str) -> Result<Option<Status>, Status> {
    let headers = response.headers();
    if let Some(status) = in_headers(headers) {
        return Ok(Some(status));
    }
    let is_grpc = headers.get(CONTENT_TYPE).is_some_and(is_grpc);
    if response.status() != StatusCode::OK || !is_grpc {
        return Err(Status::from_http(peer, response.status()));
    }
    Ok(None)
}

fn in_headers(headers: &HeaderMap) -> Option<Status> {
    Some(Status::from_headers(Code::in_headers(headers)?, headers))
}

#[cfg(test)]
mod tests;
