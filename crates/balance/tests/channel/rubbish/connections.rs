//! Rubbish that breaks the rules of HTTP/2 for its whole connection.

use tonic::Code;

use crate::{
    call,
    frames::{
        DATA, END_HEADERS, HEADERS, PUSH_PROMISE, SETTINGS, Script, WINDOW_UPDATE, Wire, frame,
        framed,
    },
    peer::Peer,
    to,
};

use super::fails_with_its_connection;

#[tokio::test]
async fn a_message_before_any_headers_is_an_internal_error() {
    fails_with_its_connection((Code::Internal, "protocol error"), |stream| {
        Script::on(stream).data(0, &framed(0, 0, &[]))
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
async fn a_server_without_settings_is_called_as_one_with_the_defaults() {
    let peer = Peer::start(|_, socket, address| async move {
        let wire = Wire::without_settings(socket).await;
        let _ = wire.expect("an HTTP/2 client").greet_all(&address).await;
    })
    .await;
    let channel = to(&[&peer.address]);
    call(&channel, "hello").await.expect("an answer");
}
