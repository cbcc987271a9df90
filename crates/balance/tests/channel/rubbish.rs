//! Servers that send rubbish, frame by frame: a call fails with what was wrong, and takes no other one down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance::Channel;
use h2::Reason;
use proto::helloworld::HelloRequest;
use registry::Address;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::{
    BOUND, bound, call, client,
    frames::{
        ACK, Asked, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD, HEADERS, PUSH_PROMISE,
        SETTINGS, Script, WINDOW_UPDATE, Wire, block, frame, framed, greeting,
    },
    hello,
    peer::Peer,
    server::Server,
    to, until, until_ready,
};

/// A server that answers calls named `rubbish` in its own way. It greets everybody else at once, but for `steady`, who
/// has to wait for the next one's turn.
struct Rude {
    peer: Peer,
    connections: Arc<AtomicUsize>,
}

impl Rude {
    async fn start(answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let peer = Peer::start(move |_, socket, address| {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            async move {
                let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
                let mut steady = None;
                while let Ok(Asked { stream, names }) = wire.asked().await {
                    let script = match names[0].as_str() {
                        "rubbish" => answer(stream),
                        "steady" => {
                            steady = Some(stream);
                            continue;
                        }
                        name => Script::on(stream).greets(name, &address),
                    };
                    if wire.write(script).await.is_err() {
                        return;
                    }
                    if names[0] != "rubbish"
                        && let Some(stream) = steady.take()
                    {
                        let script = Script::on(stream).greets("steady", &address);
                        wire.write(script).await.expect("the client is there");
                    }
                }
            }
        })
        .await;
        Self { peer, connections }
    }

    fn address(&self) -> &Address {
        &self.peer.address
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn assert_says(status: &Status, code: Code, says: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert!(
        status.message().contains(says),
        "{says:?} is not in {status}"
    );
}

/// The call fails with that; one that was under way on the same connection is answered, and so is the next.
async fn fails_alone(
    (code, says): (Code, &str),
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) {
    fails_alone_within(BOUND, (code, says), answer).await;
}

async fn fails_alone_within(
    timeout: Duration,
    (code, says): (Code, &str),
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) {
    let rude = Rude::start(answer).await;
    let channel = to(&[rude.address()]);
    let steady = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "steady").await }
    });
    until("the steady call is under way", || in_flight(&channel) == 1).await;
    let mut request = hello("rubbish");
    request.set_timeout(timeout);
    let answer = client(&channel).say_hello(request).await;
    assert_says(&answer.expect_err("rubbish"), code, says);
    call(&channel, "next").await.expect("an answer");
    steady.await.expect("runs").expect("an answer");
    assert_eq!(rude.connections(), 1, "no reason for another connection");
}

fn in_flight(channel: &Channel) -> usize {
    let endpoints = channel.explain().endpoints;
    endpoints.iter().map(|endpoint| endpoint.in_flight).sum()
}

/// The call fails with that, and so does its connection; another endpoint's calls go on, and the next call to this one is
/// answered on a new connection.
async fn fails_with_its_connection(
    (code, says): (Code, &str),
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) {
    let (rude, server) = (Rude::start(answer).await, Server::start().await);
    let channel = to(&[rude.address(), &server.address]);
    until_ready(&channel, 2).await;
    let mut elsewhere = client(&channel)
        .say_hello_stream_reply(bound("ticks", &server.address))
        .await
        .expect("a stream")
        .into_inner();
    let status = client(&channel)
        .say_hello(bound("rubbish", rude.address()))
        .await
        .expect_err("rubbish");
    assert_says(&status, code, says);
    assert!(
        status.message().contains(rude.address().as_str()),
        "{status} does not say whose fault it was"
    );
    until("it is connected again", || rude.connections() == 2).await;
    until_ready(&channel, 2).await;
    let again = client(&channel)
        .say_hello(bound("again", rude.address()))
        .await
        .expect("an answer")
        .into_inner();
    assert!(again.message.contains(rude.address().as_str()), "{again:?}");
    for _ in 0..10 {
        elsewhere.next().await.expect("goes on").expect("goes on");
    }
}

#[tokio::test]
async fn trailers_that_say_no_status_leave_it_unknown() {
    // grpc/grpc `doc/http-grpc-status-mapping.md`: 200 without a status is UNKNOWN.
    fails_alone((Code::Unknown, "without a grpc-status"), |stream| {
        let hello = framed(0, 0, &[]);
        let script = Script::on(stream).head().data(0, &hello);
        script.headers(END_STREAM, &[("x-other", "1")])
    })
    .await;
}

#[tokio::test]
async fn a_status_in_trailers_that_is_no_number_is_an_internal_error() {
    fails_alone((Code::Internal, "\"fine\""), |stream| {
        Script::on(stream)
            .head()
            .data(0, &framed(0, 0, &[]))
            .end("fine")
    })
    .await;
}

#[tokio::test]
async fn a_status_in_headers_that_is_no_number_is_an_internal_error() {
    fails_alone((Code::Internal, "\"-1\""), |stream| {
        Script::on(stream).headers(END_STREAM, &[HEAD[0], HEAD[1], ("grpc-status", "-1")])
    })
    .await;
}

#[tokio::test]
async fn a_status_that_no_code_has_is_unknown_with_what_the_server_says() {
    fails_alone((Code::Unknown, "from the future"), |stream| {
        let status = [("grpc-status", "99"), ("grpc-message", "from the future")];
        Script::on(stream).head().headers(END_STREAM, &status)
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_the_server_closes_without_trailers_is_an_internal_error() {
    fails_alone((Code::Internal, "without a status"), |stream| {
        Script::on(stream)
            .head()
            .data(END_STREAM, &framed(0, 0, &[]))
    })
    .await;
}

#[tokio::test]
async fn headers_that_end_the_stream_without_a_status_are_an_internal_error() {
    fails_alone((Code::Internal, "without a status"), |stream| {
        Script::on(stream).headers(END_STREAM, &HEAD)
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_the_server_resets_after_its_response_began_is_an_internal_error() {
    fails_alone((Code::Internal, "unexpected internal error"), |stream| {
        let script = Script::on(stream).head();
        script.reset(Reason::INTERNAL_ERROR)
    })
    .await;
}

#[tokio::test]
async fn a_reset_without_an_error_before_the_end_is_an_internal_error() {
    fails_alone((Code::Internal, "not a result of an error"), |stream| {
        Script::on(stream)
            .head()
            .data(0, &framed(0, 0, &[]))
            .reset(Reason::NO_ERROR)
    })
    .await;
}

#[tokio::test]
async fn trailers_that_do_not_end_the_stream_are_an_internal_error() {
    fails_alone((Code::Internal, "protocol error"), |stream| {
        let script = Script::on(stream).head();
        script.headers(0, &[("grpc-status", "0")])
    })
    .await;
}

#[tokio::test]
async fn headers_without_an_http_status_are_an_internal_error() {
    fails_alone((Code::Internal, "protocol error"), |stream| {
        Script::on(stream).headers(0, &[HEAD[1]])
    })
    .await;
}

#[tokio::test]
async fn a_message_before_any_headers_is_an_internal_error() {
    fails_with_its_connection((Code::Internal, "protocol error"), |stream| {
        Script::on(stream).data(0, &framed(0, 0, &[]))
    })
    .await;
}

#[tokio::test]
async fn a_content_length_that_lies_is_an_internal_error() {
    for length in ["3", "1000"] {
        fails_alone((Code::Internal, "protocol error"), move |stream| {
            Script::on(stream)
                .headers(0, &[HEAD[0], HEAD[1], ("content-length", length)])
                .data(0, &framed(0, 0, &[]))
                .end("0")
        })
        .await;
    }
}

#[tokio::test]
async fn a_page_of_html_fails_its_call_with_the_status_of_http() {
    for (status, code) in [
        ("200", Code::Unknown),
        ("404", Code::Unimplemented),
        ("500", Code::Unknown),
        ("503", Code::Unavailable),
    ] {
        fails_alone((code, status), move |stream| {
            Script::on(stream)
                .headers(0, &[(":status", status), ("content-type", "text/html")])
                .data(END_STREAM, b"<h1>Internal Server Error</h1>")
        })
        .await;
    }
}

#[tokio::test]
async fn a_message_that_is_shorter_than_its_prefix_says_is_an_internal_error() {
    fails_alone((Code::Internal, ""), |stream| {
        let message = framed(0, 100, b"short");
        Script::on(stream).head().data(0, &message).end("0")
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_longer_than_its_prefix_says_is_an_internal_error() {
    fails_alone((Code::Internal, ""), |stream| {
        let message = framed(0, 3, &[0x0a, 1, b'x', 7, 7, 7, 7, 7]);
        Script::on(stream).head().data(0, &message).end("0")
    })
    .await;
}

#[tokio::test]
async fn a_message_of_four_gigabytes_that_never_comes_is_refused_at_its_prefix() {
    fails_alone((Code::OutOfRange, "4294967295"), |stream| {
        Script::on(stream)
            .head()
            .data(0, &framed(0, u32::MAX, b"x"))
    })
    .await;
}

#[tokio::test]
async fn a_compressed_message_without_an_encoding_is_an_internal_error() {
    fails_alone((Code::Internal, "compressed-flag"), |stream| {
        let message = framed(1, 3, b"xyz");
        Script::on(stream).head().data(0, &message).end("0")
    })
    .await;
}

#[tokio::test]
async fn headers_above_the_limit_fail_their_call_alone() {
    fails_alone((Code::Internal, "protocol error"), |stream| {
        let large = "x".repeat(60 << 10);
        let fields = [HEAD[0], HEAD[1], ("x-one", &large), ("x-two", &large)];
        let block = block(&fields);
        let (first, rest) = block.split_at(60 << 10);
        Script::on(stream)
            .frame(HEADERS, 0, first)
            .frame(CONTINUATION, 0, &rest[..30 << 10])
            .frame(CONTINUATION, END_HEADERS, &rest[30 << 10..])
            .end("0")
    })
    .await;
}

#[tokio::test]
async fn a_megabyte_of_headers_fails_its_connection() {
    fails_with_its_connection((Code::Internal, ""), |stream| {
        let large = "x".repeat(1 << 20);
        let block = block(&[HEAD[0], HEAD[1], ("x-large", &large)]);
        let mut pieces = block.chunks(16 << 10);
        let mut script = Script::on(stream).frame(HEADERS, 0, pieces.next().expect("one"));
        for piece in pieces {
            script = script.frame(CONTINUATION, 0, piece);
        }
        script.frame(CONTINUATION, END_HEADERS, &[]).end("0")
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_fail_their_connection() {
    fails_with_its_connection((Code::Internal, ""), |stream| {
        let page = "HTTP/1.1 400 Bad Request\r\n\r\n".repeat(10);
        Script::on(stream).head().raw(page.as_bytes())
    })
    .await;
}

#[tokio::test]
async fn an_error_in_the_compression_of_headers_fails_its_connection() {
    fails_with_its_connection((Code::Internal, ""), |stream| {
        // An index that no table has.
        Script::on(stream).frame(HEADERS, END_HEADERS, &[0xff, 0xff, 0xff, 0x7f])
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_is_larger_than_was_agreed_fails_its_connection() {
    fails_with_its_connection((Code::Internal, "invalid size"), |stream| {
        let script = Script::on(stream).head();
        script.data(0, &vec![0; (64 << 10) + 1])
    })
    .await;
}

#[tokio::test]
async fn frames_that_break_the_rules_of_the_connection_fail_it() {
    let broken: [fn(u32) -> Vec<u8>; 4] = [
        |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        |_| frame(SETTINGS, 0, 0, &[1]),
        |stream| frame(DATA, 0, stream + 100, b"x"),
        |stream| frame(PUSH_PROMISE, END_HEADERS, stream, &[0, 0, 0, 2, 0x88]),
    ];
    for broken in broken {
        fails_with_its_connection((Code::Internal, ""), move |stream| {
            Script::on(stream).head().raw(&broken(stream))
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_sends_its_trailers_twice_has_answered_all_the_same() {
    let rude = Rude::start(|stream| {
        let greeting = framed(0, 0, &[]);
        let script = Script::on(stream).head().data(0, &greeting);
        script.end("0").end("13")
    })
    .await;
    let channel = to(&[rude.address()]);
    let answer = client(&channel).say_hello(hello("rubbish")).await;
    answer.expect("the first status counts");
    // HTTP/2 lets the connection go for that: calls after it get another one.
    for _ in 0..10 {
        let mut request = hello("next");
        request.extensions_mut().insert(balance::WaitForReady(true));
        let answer = client(&channel).say_hello(request).await;
        answer.expect("an answer");
    }
}

#[tokio::test]
async fn a_reset_after_the_end_takes_nothing_back() {
    let rude = Rude::start(|stream| {
        let script = Script::on(stream).head().data(0, &framed(0, 0, &[]));
        script.end("0").reset(Reason::NO_ERROR)
    })
    .await;
    let channel = to(&[rude.address()]);
    for _ in 0..10 {
        let answer = client(&channel).say_hello(hello("rubbish")).await;
        answer.expect("it was answered in full");
    }
    call(&channel, "next").await.expect("an answer");
    assert_eq!(rude.connections(), 1);
}

#[tokio::test]
async fn a_server_that_has_heard_enough_ends_an_upload_with_its_answer() {
    let peer = Peer::start(|_, socket, address| async move {
        let mut wire = Wire::open(socket).await.expect("an HTTP/2 client");
        while let Ok(stream) = wire.asked_in_part(2).await {
            // RFC 9113, section 8.1: an answer in full, and then the wish to hear no more.
            let script = Script::on(stream).greets("enough", &address);
            let _ = wire.write(script.reset(Reason::NO_ERROR)).await;
        }
    })
    .await;
    let channel = to(&[&peer.address]);
    let endless = tokio_stream::iter(0..).throttle(Duration::from_millis(1));
    let endless = endless.map(|n: u64| HelloRequest {
        name: n.to_string(),
    });
    let replies = client(&channel)
        .say_hello_bidi_stream(Box::pin(endless))
        .await
        .expect("an answer")
        .into_inner();
    let replies: Vec<_> = replies.collect().await;
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0].as_ref().expect("a greeting");
    until("the upload has ended", || in_flight(&channel) == 0).await;
}

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

#[tokio::test]
async fn a_server_without_settings_is_called_as_one_with_the_defaults() {
    let peer = Peer::start(|_, socket, address| async move {
        let wire = Wire::without_settings(socket).await;
        let _ = wire.expect("an HTTP/2 client").greet_all(&address).await;
    })
    .await;
    let channel = to(&[&peer.address]);
    call(&channel, "hello").await.expect("an answer");
}
