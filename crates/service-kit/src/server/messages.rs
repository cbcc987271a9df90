//! What callers' messages may take: each call counts for its longest message, from when the message comes until the call has ended.
//!
//! tonic gathers a message until it is whole, and keeps what it has gathered it in; what a handler makes of it is as long, and so may
//! be an answer that nobody reads. So all of that is counted as one, and given back when request and response are dropped.

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
use tonic::{Status, body, transport::server::TcpConnectInfo};
use tower::{Layer, Service};

use super::tls::Peer;
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

impl<S, O> Service<Request<body::Body>> for Counted<S>
where
    S: Service<Request<CountedBody>, Response = Response<O>>,
{
    type Response = Response<HoldingBody<O>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<body::Body>) -> Self::Future {
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
    let tcp = tcp.or_else(|| Some(&extensions.get::<Peer>()?.tcp));
    let address = tcp.and_then(TcpConnectInfo::remote_addr);
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

/// A request's body that ends with an error when there is no memory for what comes.
pub(super) struct CountedBody {
    /// `None` once it was refused.
    body: Option<body::Body>,
    framing: Framing,
    held: Arc<Held>,
}

impl Body for CountedBody {
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
        Poll::Ready(Ok(response.map(|body| HoldingBody { body, _held: held })))
    }
}

/// A response's body that holds what the request has taken.
pub(super) struct HoldingBody<B> {
    body: B,
    _held: Option<Arc<Held>>,
}

impl<B: Body + Unpin> Body for HoldingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
