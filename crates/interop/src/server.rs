//! tonic's server with the service that the cases call.

mod handler;
mod served;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{body::Body, codec::CompressionEncoding::Gzip, server::NamedService, transport};
use tower::Service;

pub use self::served::Served;
use self::{handler::Handler, served::Begun};
use crate::{testing::test_service_server::TestServiceServer, wire::CompressedFlags};

/// Metadata that comes back in front of the messages.
pub(crate) const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// Metadata that comes back after them.
pub(crate) const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";

/// `grpc.testing.TestService`, and around tonic's part of it what tonic has no way to say: trailing metadata of a call
/// that goes well, and whether a request was compressed.
#[derive(Debug, Clone)]
pub struct TestService {
    tonic: TestServiceServer<Handler>,
    served: Arc<Served>,
}

impl Default for TestService {
    fn default() -> Self {
        let tonic = TestServiceServer::new(Handler);
        Self {
            tonic: tonic.accept_compressed(Gzip).send_compressed(Gzip),
            served: Arc::default(),
        }
    }
}

impl TestService {
    /// What it has served, now and later.
    pub fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served)
    }
}

impl NamedService for TestService {
    const NAME: &'static str = TestServiceServer::<Handler>::NAME;
}

impl Service<Request<Body>> for TestService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.tonic, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let begun = Begun::new(&self.served);
        let initial = echo(request.headers(), ECHO_INITIAL);
        let trailing = echo(request.headers(), ECHO_TRAILING);
        let answer = self
            .tonic
            .call(observed(request.map(|body| begun.request(body))));
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().extend(initial);
            Ok(response.map(|body| finished(body, trailing, begun)))
        })
    }
}

fn echo(headers: &HeaderMap, name: &'static str) -> HeaderMap {
    let name = HeaderName::from_static(name);
    let values = headers.get_all(&name).iter();
    values.map(|value| (name.clone(), value.clone())).collect()
}

/// The request with its [`CompressedFlags`] among its extensions.
fn observed(request: Request<Body>) -> Request<Body> {
    let (mut head, body) = request.into_parts();
    let (body, flags) = CompressedFlags::of(body);
    head.extensions.insert(flags);
    Request::from_parts(head, body)
}

/// The body with more trailers, and the call with it until it ends. A body without any is that of a call that has failed
/// at once.
fn finished(body: Body, trailing: HeaderMap, mut begun: Begun) -> Body {
    if body.is_end_stream() {
        begun.answered();
        return body;
    }
    let body = body.with_trailers(async { Some(Ok(trailing)) });
    Body::new(body.map_frame(move |frame| {
        if frame.is_trailers() {
            begun.answered();
        }
        frame
    }))
}

/// Serves `service`, and nothing else, to whoever connects, until the task ends.
///
/// # Errors
/// When nobody can be listened to any more.
pub async fn serve(listener: TcpListener, service: TestService) -> anyhow::Result<()> {
    let incoming = TcpListenerStream::new(listener);
    let server = transport::Server::builder().add_service(service);
    Ok(server.serve_with_incoming(incoming).await?)
}
