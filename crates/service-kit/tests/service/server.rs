//! What every binary's server does with calls that go wrong, and what it counts.

use crate::running::{BOUND, Running, config, start};
use proto::helloworld::HelloRequest;
use testkit::eventually;
use tonic::{Code, Status};

async fn say(running: &Running, name: &str) -> Result<String, Status> {
    let request = HelloRequest {
        name: name.to_owned(),
    };
    let reply = running.greeter().say_hello(request).await?;
    Ok(reply.into_inner().message)
}

/// The number of calls of a method that ended with a status.
fn counted(running: &Running, method: &str, status: &str) -> Option<u64> {
    let metrics = running.telemetry.render().expect("metrics");
    let line = metrics.lines().find(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count")
            && line.contains(&format!("rpc_method=\"{method}\""))
            && line.contains(&format!("rpc_response_status_code=\"{status}\""))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

pub(crate) async fn until_counted(running: &Running, method: &str, status: &str, count: u64) {
    let what = format!("{count} calls of {method} that ended with {status}");
    eventually(BOUND, &what, async || {
        counted(running, method, status) == Some(count)
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_panics_answers_internal_and_the_connection_lives() {
    let running = start(config(), |_| {}).await;
    let refused = say(&running, "panic").await.expect_err("a panic");
    assert_eq!(refused.code(), Code::Internal);
    assert!(!refused.message().contains("as ordered"), "{refused}");
    assert_eq!(say(&running, "four").await.expect("an answer"), "4");
    until_counted(&running, "helloworld.Greeter/SayHello", "INTERNAL", 1).await;
    until_counted(&running, "helloworld.Greeter/SayHello", "OK", 1).await;
}

#[tokio::test]
async fn a_message_of_64_mib_is_refused_with_resource_exhausted_and_others_go_on() {
    let running = start(config(), |_| {}).await;
    let huge = "x".repeat(64 * 1024 * 1024);
    let refused = say(&running, &huge).await.expect_err("it is too large");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(say(&running, "four").await.expect("an answer"), "4");
    until_counted(
        &running,
        "helloworld.Greeter/SayHello",
        "RESOURCE_EXHAUSTED",
        1,
    )
    .await;
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_counted_as_cancelled() {
    let running = start(config(), |_| {}).await;
    let mut greeter = running.greeter();
    let call = tokio::spawn(async move {
        let name = "never".to_owned();
        greeter.say_hello(HelloRequest { name }).await
    });
    until_active(&running, 1).await;
    call.abort();
    until_counted(&running, "helloworld.Greeter/SayHello", "CANCELLED", 1).await;
    until_active(&running, 0).await;
}

/// Waits until the metrics say that so many calls are being served.
pub(crate) async fn until_active(running: &Running, calls: u64) {
    let line = format!(" {calls}");
    eventually(BOUND, &format!("{calls} calls being served"), async || {
        let metrics = running.telemetry.render().expect("metrics");
        let mut lines = metrics.lines();
        lines.any(|l| l.starts_with("rpc_server_calls_active") && l.ends_with(&line))
    })
    .await;
}

#[tokio::test]
async fn methods_that_are_not_served_share_one_series() {
    use tonic::client::Grpc;
    let running = start(config(), |_| {}).await;
    for name in ["One", "Two"] {
        let mut client = Grpc::new(running.channel.clone());
        client.ready().await.expect("a connection");
        let path = format!("/helloworld.Greeter/{name}")
            .parse()
            .expect("a path");
        let codec = tonic_prost_codec();
        let refused = client
            .unary(tonic::Request::new(HelloRequest::default()), path, codec)
            .await;
        assert_eq!(
            refused.expect_err("nobody serves it").code(),
            Code::Unimplemented
        );
    }
    until_counted(&running, "_OTHER", "UNIMPLEMENTED", 2).await;
}

fn tonic_prost_codec() -> tonic_prost::ProstCodec<HelloRequest, proto::helloworld::HelloReply> {
    tonic_prost::ProstCodec::default()
}
