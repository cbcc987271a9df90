//! What is sent again.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use balance::Channel;
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::Service;

use crate::{
    frames::{END_STREAM, HEAD, Script, Wire, asking, greeting},
    peer::Peer,
};

use super::RETRIES;

/// A request body that cannot be cloned.
struct Once(UnboundedReceiverStream<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = tokio_stream::Stream::poll_next(Pin::new(&mut self.0), cx);
        next.map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// Issues 733 and 1463.
#[tokio::test]
async fn requests_that_cannot_be_cloned_are_retried_unary_and_streaming() {
    let peer = Peer::start(|_, socket, address| async move {
        let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
        for call in 0.. {
            let Ok(asked) = wire.asked().await else {
                return;
            };
            let script = Script::on(asked.stream);
            let script = if call % 3 < 2 {
                let unavailable = [HEAD.as_slice(), &[("grpc-status", "14")]];
                script.headers(END_STREAM, &unavailable.concat())
            } else {
                script.greets(&asked.names.join(" and "), &address)
            };
            wire.write(script).await.expect("the client is there");
        }
    })
    .await;
    let mut channel = Channel::builder(format!("static:///{}", peer.address))
        .service_config(RETRIES)
        .build()
        .expect("a channel");
    for names in [["one"].as_slice(), &["one", "two", "three"]] {
        let (send, body) = mpsc::unbounded_channel();
        let mut request = http::Request::new(Once(UnboundedReceiverStream::new(body)));
        *request.uri_mut() = "/helloworld.Greeter/SayHello".parse().expect("a path");
        let answer = tokio::spawn(channel.call(request));
        for name in names {
            send.send(Bytes::from(asking(name))).expect("read");
        }
        drop(send);
        let Ok(answer) = answer.await.expect("runs");
        let mut body = answer.into_body();
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Ok(first) = first.expect("a reply");
        let reply = first.into_data().expect("a reply, and no status");
        let expected = greeting(&names.join(" and "), &peer.address);
        assert_eq!(reply, expected, "the third attempt, whole");
    }
}
