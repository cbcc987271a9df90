//! Answers that break the rules of gRPC, or those of HTTP/2 for their own stream.

use h2::Reason;
use tonic::Code;

use crate::frames::{END_STREAM, HEAD, Script, framed};

use super::fails_alone;

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
