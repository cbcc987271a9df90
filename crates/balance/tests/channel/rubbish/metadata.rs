//! More metadata than a channel takes.

use tonic::Code;

use crate::frames::{END_STREAM, HEAD, Script, framed};

use super::{fails_alone, fails_with_its_connection};

/// Name, value and 32 bytes for each field, with `:status` and `content-type` (RFC 9113, section 6.5.2).
const HEAD_SIZE: usize = (7 + 3 + 32) + (12 + 16 + 32);

#[tokio::test]
async fn headers_above_the_limit_fail_their_call_alone_and_say_how_large_they_are() {
    let size = HEAD_SIZE + 2 * (5 + (60 << 10) + 32);
    let says = format!("the response's headers have {size} bytes, more than the 65536");
    fails_alone((Code::ResourceExhausted, &says), |stream| {
        let large = "x".repeat(60 << 10);
        let fields = [HEAD[0], HEAD[1], ("x-one", &large), ("x-two", &large)];
        Script::on(stream).long_headers(0, &fields).end("0")
    })
    .await;
}

#[tokio::test]
async fn trailers_above_the_limit_fail_their_call_alone_although_they_say_that_it_succeeded() {
    let size = (11 + 1 + 32) + (7 + (64 << 10) + 32);
    let says = format!("the response's trailers have {size} bytes, more than the 65536");
    fails_alone((Code::ResourceExhausted, &says), |stream| {
        let large = "x".repeat(64 << 10);
        let fields = [("grpc-status", "0"), ("x-large", large.as_str())];
        let script = Script::on(stream).head().data(0, &framed(0, 0, &[]));
        script.long_headers(END_STREAM, &fields)
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_trailers_alone_above_the_limit_fails_its_call_alone() {
    fails_alone(
        (Code::ResourceExhausted, "the response's headers have"),
        |stream| {
            let large = "x".repeat(64 << 10);
            let fields = [
                HEAD[0],
                HEAD[1],
                ("grpc-status", "5"),
                ("grpc-message", &large),
            ];
            Script::on(stream).long_headers(END_STREAM, &fields)
        },
    )
    .await;
}

#[tokio::test]
async fn four_megabytes_of_headers_fail_their_connection() {
    fails_with_its_connection((Code::Internal, ""), |stream| {
        let large = "x".repeat(4 << 20);
        let fields = [HEAD[0], HEAD[1], ("x-large", &large)];
        Script::on(stream).long_headers(0, &fields).end("0")
    })
    .await;
}
