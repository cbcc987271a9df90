//! Servers that stop in the middle, and those that hang before anybody calls.

use std::time::Duration;

use registry::Address;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tonic::Code;

use crate::{
    bound, call, client,
    frames::{ACK, DATA, HEADERS, SETTINGS, Script, Wire, frame, framed, greeting},
    hello,
    peer::Peer,
    server::Server,
    to, until_ready,
};

use super::{Rude, assert_says, fails_alone_within};

const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_call_that_is_never_answered_ends_at_its_deadline_alone() {
    fails_alone_within(SOON, (Code::DeadlineExceeded, "300ms"), Script::on).await;
}

#[tokio::test]
async fn a_call_whose_response_stops_after_its_headers_ends_at_its_deadline_alone() {
    fails_alone_within(SOON, (Code::DeadlineExceeded, "300ms"), |stream| {
        Script::on(stream).head()
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_response_stops_in_the_middle_of_a_message_ends_at_its_deadline_alone() {
    fails_alone_within(SOON, (Code::DeadlineExceeded, "300ms"), |stream| {
        let message = framed(0, 100, b"only a part");
        Script::on(stream).head().data(0, &message)
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_response_stops_before_its_trailers_ends_at_its_deadline_alone() {
    fails_alone_within(SOON, (Code::DeadlineExceeded, "300ms"), |stream| {
        let message = greeting("rubbish", &Address::new("10.0.0.1:1").expect("an address"));
        Script::on(stream).head().data(0, &message)
    })
    .await;
}

/// A listener whose queue is full: Linux answers no more of those who want to connect.
async fn deaf() -> (TcpListener, Vec<TcpStream>, Address) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    socket.bind(any).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let at = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(connected) = timeout(SOON, TcpStream::connect(at)).await {
        queued.push(connected.expect("it is queued"));
    }
    (listener, queued, at.into())
}

#[tokio::test]
async fn a_host_that_does_not_answer_gets_no_call() {
    let (_listener, _queued, address) = deaf().await;
    let server = Server::start().await;
    let both = to(&[&address, &server.address]);
    for _ in 0..10 {
        call(&both, "alive").await.expect("an answer");
    }
    let mut request = hello("hung");
    request.set_timeout(SOON);
    let alone = to(&[&address]);
    let status = client(&alone).say_hello(request).await.expect_err("hangs");
    assert_says(&status, Code::DeadlineExceeded, "CONNECTING");
}

#[tokio::test]
async fn a_response_that_stops_in_the_middle_of_a_frame_ends_at_its_deadline() {
    let rude = Rude::start(|stream| {
        let message = greeting("rubbish", &Address::new("10.0.0.1:1").expect("an address"));
        let frame = frame(DATA, 0, stream, &message);
        Script::on(stream).head().raw(&frame[..12])
    })
    .await;
    let server = Server::start().await;
    let channel = to(&[rude.address(), &server.address]);
    until_ready(&channel, 2).await;
    let mut request = bound("rubbish", rude.address());
    request.set_timeout(SOON);
    let status = client(&channel)
        .say_hello(request)
        .await
        .expect_err("never ends");
    assert_says(&status, Code::DeadlineExceeded, "300ms");
    client(&channel)
        .say_hello(bound("other", &server.address))
        .await
        .expect("an answer");
}

/// What a server that is never ready comes to before it hangs.
#[derive(Clone, Copy, Debug)]
enum HangsAfter {
    Preface,
    Settings,
    Acknowledgement,
}

#[tokio::test]
async fn a_server_that_hangs_before_it_has_answered_a_ping_gets_no_call() {
    for stage in [
        HangsAfter::Preface,
        HangsAfter::Settings,
        HangsAfter::Acknowledgement,
    ] {
        let hung = Peer::start(move |_, socket, _| async move {
            let mut wire = match stage {
                HangsAfter::Preface => Wire::without_settings(socket).await,
                _ => Wire::open(socket).await,
            }
            .expect("an HTTP/2 client");
            while let Ok(heard) = wire.next().await {
                let ours = (heard.kind, heard.flags) == (SETTINGS, 0);
                if ours && matches!(stage, HangsAfter::Acknowledgement) {
                    let ack = frame(SETTINGS, ACK, 0, &[]);
                    wire.raw(&ack).await.expect("the client is there");
                }
                assert_ne!(heard.kind, HEADERS, "a call was sent to it: {stage:?}");
            }
        })
        .await;
        let server = Server::start().await;
        let both = to(&[&hung.address, &server.address]);
        for _ in 0..10 {
            call(&both, "alive").await.expect("an answer");
        }
        let mut request = hello("hung");
        request.set_timeout(SOON);
        let alone = to(&[&hung.address]);
        let status = client(&alone).say_hello(request).await.expect_err("hangs");
        assert_says(&status, Code::DeadlineExceeded, "CONNECTING");
    }
}
