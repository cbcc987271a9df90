//! A server of one connection that answers by a script; for tests.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response, uri::Scheme};
use prost::Message;
use registry::Address;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::{Head, framing::framed};
use crate::{
    status::Code,
    transport::{ConnectOptions, Connection, connect},
};

/// No wait in these tests is longer than this.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// Who calls in these tests.
pub(crate) fn head() -> Head {
    Head {
        scheme: Scheme::HTTP,
        authority: "greeter".parse().expect("an authority"),
        user_agent: HeaderValue::from_static("test"),
    }
}

/// A connection whose other side gives each call, with its number from 0, to `answer`. It breaks when the task ends.
pub(crate) async fn connected<F>(
    answer: impl Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
) -> (Arc<Connection>, AbortOnDropHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = Address::from(listener.local_addr().expect("bound"));
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("accepts");
        let mut builder = Builder::new();
        builder.max_concurrent_streams(1);
        let mut connection = builder.handshake(socket).await.expect("HTTP/2");
        let mut answers = JoinSet::new();
        let mut number = 0;
        while let Some(Ok((request, respond))) = connection.accept().await {
            answers.spawn(answer(number, request, respond));
            number += 1;
        }
    });
    let connection = connect_to(address).await;
    (connection, AbortOnDropHandle::new(task))
}

pub(crate) async fn connect_to(address: Address) -> Arc<Connection> {
    Arc::new(
        connect(&[address], &ConnectOptions::default())
            .await
            .expect("it listens"),
    )
}

/// Begins an answer as gRPC does.
pub(crate) fn open(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = response.body(()).expect("a response");
    respond.send_response(response, false).expect("open")
}

pub(crate) fn send(stream: &mut SendStream<Bytes>, message: &impl Message) {
    stream.send_data(framed(message), false).expect("open");
}

/// Ends an answer that has begun.
pub(crate) fn end(stream: &mut SendStream<Bytes>, code: Code) {
    stream.send_trailers(status(code)).expect("open");
}

/// Answers with a status and nothing else.
pub(crate) fn refuse(respond: &mut SendResponse<Bytes>, code: Code) {
    let mut response = Response::new(());
    *response.headers_mut() = status(code);
    respond.send_response(response, true).expect("open");
}

fn status(code: Code) -> HeaderMap {
    HeaderMap::from_iter([(crate::status::GRPC_STATUS, u16::from(code.number()).into())])
}

/// Waits until the caller has given a call up.
pub(crate) async fn given_up(stream: &mut SendStream<Bytes>) -> h2::Reason {
    let reset = std::future::poll_fn(|cx| stream.poll_reset(cx));
    reset.await.expect("the stream ends before its connection")
}
