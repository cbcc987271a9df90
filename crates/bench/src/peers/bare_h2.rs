//! The least that a call over HTTP/2 can be in this workspace: `h2`, and what gRPC asks for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::Result;
use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{HeaderValue, Uri, uri::Authority};
use http_body::Frame;
use tokio::net::TcpStream;
use tonic::{body::Body, codegen::Service};

use super::unary_message;

/// Takes one connection after the other, makes unary calls only, and knows no failure but h2's: no status is read, no
/// deadline kept, nothing counted, no stream limit respected.
#[derive(Clone)]
pub(crate) struct BareH2 {
    connections: Vec<(Authority, SendRequest<Bytes>)>,
    next: usize,
}

impl BareH2 {
    pub(crate) async fn connect(addresses: &[String]) -> Result<Self> {
        let mut connections = Vec::new();
        for address in addresses {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let (send, connection) = client::Builder::new()
                .initial_window_size(1 << 20)
                .initial_connection_window_size((1 << 31) - 1)
                .handshake(socket)
                .await?;
            tokio::spawn(connection);
            connections.push((address.parse()?, send));
        }
        Ok(Self {
            connections,
            next: fastrand::usize(..addresses.len()),
        })
    }
}

impl Service<http::Request<Body>> for BareH2 {
    type Response = http::Response<Receiving>;
    type Error = h2::Error;
    type Future = Answered;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.next = (self.next + 1) % self.connections.len();
        self.connections[self.next].1.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (authority, send) = &mut self.connections[self.next];
        let (mut parts, body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(authority.clone());
        parts.uri = Uri::from_parts(uri).expect("all three parts are there");
        parts.extensions.clear();
        parts
            .headers
            .insert("user-agent", HeaderValue::from_static("bare-h2"));
        let message = unary_message(http::Request::new(body));
        let opened = send.send_request(http::Request::from_parts(parts, ()), false);
        Answered(opened.and_then(|(response, mut stream)| {
            stream.send_data(message, true)?;
            Ok(response)
        }))
    }
}

/// A response that is still to come.
pub(crate) struct Answered(Result<ResponseFuture, h2::Error>);

impl Future for Answered {
    type Output = Result<http::Response<Receiving>, h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(response) => {
                let response = ready!(Pin::new(response).poll(cx))?;
                Poll::Ready(Ok(response.map(Receiving)))
            }
            Err(_) => Poll::Ready(Err(Reason::INTERNAL_ERROR.into())),
        }
    }
}

/// The response's data, and then its trailers.
pub(crate) struct Receiving(RecvStream);

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = &mut self.0;
        Poll::Ready(match ready!(stream.poll_data(cx)) {
            Some(data) => Some(data.map(Frame::data)),
            None => ready!(stream.poll_trailers(cx))?.map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
