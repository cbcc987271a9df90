//! What a server says beside its messages, and what no server should say there.

use balance::Channel;
use proto::helloworld::HelloReply;
use tonic::{Code, Status};

use crate::{
    client,
    frames::{END_STREAM, HEAD, Script, framed},
    hello,
    load_reports::calling,
};

use super::{Rude, assert_says, fails_alone};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";

/// A call fails with that whether these fields come as trailers, or in the headers of an answer without a message.
async fn fails_either_way(expected: (Code, &str), fields: &'static [(&str, &str)]) {
    fails_alone(expected, move |stream| {
        let script = Script::on(stream).head().data(0, &framed(0, 0, &[]));
        script.headers(END_STREAM, fields)
    })
    .await;
    fails_alone(expected, move |stream| {
        Script::on(stream).headers(END_STREAM, &[&HEAD, fields].concat())
    })
    .await;
}

/// What comes of one call that is answered so.
async fn answered(
    settle: impl FnOnce(balance::Builder) -> balance::Builder,
    answer: impl Fn(u32) -> Script + Clone + Send + Sync + 'static,
) -> Result<HelloReply, Status> {
    let rude = Rude::start(answer).await;
    let builder = Channel::builder(format!("static:///{}", rude.address()));
    let channel = settle(builder).build().expect("a channel");
    let answer = client(&channel).say_hello(hello("rubbish")).await;
    Ok(answer?.into_inner())
}

/// A whole answer with these trailers beside the status.
fn with(trailers: &'static [(&str, &str)]) -> impl Fn(u32) -> Script + Clone {
    move |stream| {
        let script = Script::on(stream).head().data(0, &framed(0, 0, &[]));
        script.headers(END_STREAM, &[&[(STATUS, "0")], trailers].concat())
    }
}

#[tokio::test]
async fn details_that_are_not_base64_are_an_internal_error_and_no_panic() {
    for status in ["0", "5"] {
        let fields = match status {
            "0" => &[(STATUS, "0"), (DETAILS, "%%%")],
            _ => &[(STATUS, "5"), (DETAILS, "A")],
        };
        fails_either_way((Code::Internal, "grpc-status-details-bin"), fields).await;
    }
}

#[tokio::test]
async fn details_that_are_base64_of_rubbish_are_their_readers() {
    let fields = &[(STATUS, "5"), (MESSAGE, "gone"), (DETAILS, "/////w")];
    fails_either_way((Code::NotFound, "gone"), fields).await;
}

#[tokio::test]
async fn two_statuses_that_differ_are_an_internal_error() {
    let says = (Code::Internal, "grpc-status is \"0\" and \"13\"");
    fails_either_way(says, &[(STATUS, "0"), (STATUS, "13")]).await;
    let says = (Code::Internal, "grpc-status is \"14\" and \"0\"");
    fails_either_way(says, &[(STATUS, "14"), (STATUS, "0")]).await;
}

#[tokio::test]
async fn a_status_that_is_said_twice_is_that_status() {
    fails_either_way((Code::NotFound, ""), &[(STATUS, "5"), (STATUS, "5")]).await;
}

#[tokio::test]
async fn a_message_that_is_no_text_leaves_the_status_as_it_is() {
    for message in ["50%", "%zz", "%ff is gone", "\u{fc}"] {
        let fields: &'static [_] = vec![(STATUS, "5"), (MESSAGE, message)].leak();
        fails_either_way((Code::NotFound, ""), fields).await;
    }
    let fields = &[(STATUS, "5"), (MESSAGE, "%ff is gone: 50%")];
    fails_either_way((Code::NotFound, "\u{fffd} is gone: 50%"), fields).await;
}

#[tokio::test]
async fn what_only_begins_like_grpcs_content_type_is_not_grpc() {
    for content in ["application/grpcs", "application/grpc-web+proto"] {
        fails_alone((Code::Unknown, "instead of gRPC"), move |stream| {
            Script::on(stream)
                .headers(0, &[HEAD[0], ("content-type", content)])
                .data(END_STREAM, b"?")
        })
        .await;
    }
}

#[tokio::test]
async fn a_content_type_of_grpc_may_have_a_suffix_or_a_parameter() {
    for content in ["application/grpc+proto", "application/grpc;v=1"] {
        let answer = answered(
            |builder| builder,
            move |stream| {
                Script::on(stream)
                    .headers(0, &[HEAD[0], ("content-type", content)])
                    .data(0, &framed(0, 0, &[]))
                    .end("0")
            },
        );
        answer.await.expect(content);
    }
}

#[tokio::test]
async fn a_flag_of_compression_that_is_none_is_an_internal_error() {
    fails_alone((Code::Internal, "flag: 7"), |stream| {
        let message = framed(7, 0, &[]);
        Script::on(stream).head().data(0, &message).end("0")
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_fails_in_its_headers_fails_whatever_follows() {
    fails_alone((Code::Internal, ""), |stream| {
        let headers = [HEAD[0], HEAD[1], (STATUS, "13")];
        Script::on(stream)
            .headers(0, &headers)
            .data(0, &framed(0, u32::MAX, b"?"))
            .end("0")
    })
    .await;
}

#[tokio::test]
async fn informational_headers_are_passed_over() {
    let answer = answered(
        |builder| builder,
        |stream| {
            Script::on(stream)
                .headers(0, &[(":status", "103"), ("link", "</style.css>")])
                .headers(0, &[(":status", "100")])
                .head()
                .data(0, &framed(0, 0, &[]))
                .end("0")
        },
    );
    answer.await.expect("an answer");
}

#[tokio::test]
async fn informational_headers_that_end_the_stream_are_an_internal_error() {
    fails_alone((Code::Internal, ""), |stream| {
        Script::on(stream).headers(END_STREAM, &[(":status", "103")])
    })
    .await;
}

#[tokio::test]
async fn binary_metadata_that_is_not_base64_is_its_readers() {
    let answer = answered(|builder| builder, with(&[("x-other-bin", "%%%")]));
    answer.await.expect("an answer");
}

#[tokio::test]
async fn a_load_report_that_is_none_changes_nothing() {
    for report in ["%%%", "/////w"] {
        let trailers: &'static [_] = vec![("endpoint-load-metrics-bin", report)].leak();
        let weighted = |builder: balance::Builder| builder.service_config(calling("{}"));
        answered(weighted, with(trailers)).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_pushback_that_is_no_number_means_never() {
    let retrying = |builder: balance::Builder| {
        builder.service_config(
            r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5,
                "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#,
        )
    };
    for pushback in ["soon", "", "1e3", "-9223372036854775809"] {
        let attempts = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&attempts);
        let failed = answered(retrying, move |stream| {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let pushback = ("grpc-retry-pushback-ms", pushback);
            let fields = [HEAD[0], HEAD[1], (STATUS, "14"), pushback];
            Script::on(stream).headers(END_STREAM, &fields)
        });
        assert_says(&failed.await.expect_err("it fails"), Code::Unavailable, "");
        assert_eq!(attempts.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}
