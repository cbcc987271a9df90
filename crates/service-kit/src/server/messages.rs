//! What callers' messages may take: each call counts for its longest message, from when the message comes until the call has ended.
//!
//! tonic gathers a message until it is whole, and keeps what it has gathered it in; what a handler makes of it is as long, and so may
//! be an answer that nobody reads. So all of that is counted as one, and given back when nothing is left of request and response. An
//! answer is there until its last byte is written: h2 takes each piece whole, however little the peer's window lets out of it.

mod framing;
mod memory;

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, transport::server::TcpConnectInfo};
use tower::{Layer, Service};

use framing::Framing;
use memory::Held;
pub(crate) use memory::MessageMemory;

/// The layer. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Messages(MessageMemory);

impl Messages {
    /// Has the messages of every call take of this memory.
    pub(super) fn new(memory: MessageMemory) -> Self {
        Self(memory)
    }
}

impl<S> Layer<S> for Messages {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            memory: self.0.clone(),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    memory: MessageMemory,
}

impl<S, I, O> Service<Request<I>> for Counted<S>
where
    S: Service<Request<CountedBody<I>>, Response = Response<O>>,
{
    type Response = Response<HoldingBody<O>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let held = Arc::new(self.memory.hold(peer_of(request.extensions())));
        let request = request.map(|body| CountedBody {
            body: Some(body),
            framing: Framing::default(),
            held: Arc::clone(&held),
        });
        CountedFuture {
            response: self.inner.call(request),
            held: Some(held),
        }
    }
}

/// Who has made a call. Those of whom no address is known any more are one.
fn peer_of(extensions: &Extensions) -> IpAddr {
    let tcp = extensions.get::<TcpConnectInfo>();
    let address = tcp.and_then(TcpConnectInfo::remote_addr);
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

/// A request's body that ends with an error when there is no memory for what comes.
pub(super) struct CountedBody<B> {
    /// `None` once it was refused.
    body: Option<B>,
    framing: Framing,
    held: Arc<Held>,
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let next = ready!(Pin::new(body).poll_frame(task));
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
        {
            let come = self.framing.longest(data);
            if let Err(refused) = self.held.grow_to(come) {
                self.body = None;
                return Poll::Ready(Some(Err(refused)));
            }
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

pin_project! {
    /// A call until its response begins.
    pub(super) struct CountedFuture<F> {
        #[pin]
        response: F,
        // Until the response has it.
        held: Option<Arc<Held>>,
    }
}

impl<F, O, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = Result<Response<HoldingBody<O>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(task))?;
        let held = this.held.take();
        Poll::Ready(Ok(response.map(|body| HoldingBody { body, held })))
    }
}

/// A response's body that holds what the request has taken, as does each piece of it.
pub(super) struct HoldingBody<B> {
    body: B,
    held: Option<Arc<Held>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for HoldingBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(task));
        let holding = self.held.as_ref().filter(|held| !held.is_nothing());
        Poll::Ready(match (next, holding) {
            (Some(Ok(frame)), Some(held)) => Some(Ok(frame.map_data(|data| held_by(held, data)))),
            (next, _) => next,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The same data, which holds that for as long as it is there.
fn held_by(held: &Arc<Held>, data: Bytes) -> Bytes {
    Bytes::from_owner(Piece {
        data,
        _held: Arc::clone(held),
    })
}

struct Piece {
    data: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::Ipv4Addr};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use tonic::body;
    use tower::{Layer, ServiceExt, service_fn};

    use super::{CountedBody, MessageMemory, Messages};
    use crate::{Telemetry, config::LimitsConfig};

    const LONG: usize = 1024 * 1024;

    #[tokio::test]
    async fn an_answer_counts_for_as_long_as_anything_is_left_of_it() {
        let telemetry = Telemetry::metrics_only().expect("metrics");
        let memory = MessageMemory::new(&LimitsConfig::default(), &telemetry.meter("test"));
        let echo = service_fn(async |request: Request<CountedBody<body::Body>>| {
            let whole = request.into_body().collect().await.expect("a message");
            Ok::<_, Infallible>(Response::new(Full::new(whole.to_bytes())))
        });
        let length = u32::try_from(LONG).expect("short").to_be_bytes();
        let message = [&[0], length.as_slice(), &vec![7; LONG]].concat();
        let request = Request::new(body::Body::new(Full::new(Bytes::from(message.clone()))));
        let called = Messages::new(memory.clone()).layer(echo).oneshot(request);
        let mut answer = called.await.expect("an answer").into_body();
        let piece = answer.frame().await.expect("a piece").expect("no error");
        let mut piece = piece.into_data().expect("data");
        assert_eq!(piece, message);
        drop(answer);
        let last = piece.split_off(LONG);
        drop(piece);
        assert!(memory.taken_by(Ipv4Addr::UNSPECIFIED.into()) >= LONG);
        drop(last);
        assert_eq!(memory.taken_by(Ipv4Addr::UNSPECIFIED.into()), 0);
    }
}
