//! Calls whose deadline ends while they are served, of a caller who only listens: the answer is the server's.

use prost::Message;
use proto::helloworld::HelloRequest;
use testkit::frames::{Call, Caller, message};
use tokio::time::timeout;

use crate::{
    running::{BOUND, Running, config, start},
    server::{until_active, until_counted},
};

const SAY_HELLO: &str = "helloworld.Greeter/SayHello";
const STREAM: &str = "helloworld.Greeter/SayHelloStreamReply";
const OK: &str = "0";
const DEADLINE_EXCEEDED: &str = "4";

#[tokio::test]
async fn a_call_that_is_not_answered_in_its_time_ends_with_deadline_exceeded() {
    let running = start(config(), |_| {}).await;
    ends_with_its_time(&running, SAY_HELLO).await;
}

#[tokio::test]
async fn a_stream_that_outlasts_its_time_ends_with_deadline_exceeded() {
    let running = start(config(), |_| {}).await;
    ends_with_its_time(&running, STREAM).await;
}

#[tokio::test]
async fn a_call_that_is_answered_in_its_time_is_left_alone() {
    let running = start(config(), |_| {}).await;
    let mut caller = connected(&running).await;
    let call = caller.call_within(SAY_HELLO, "20S").await;
    assert_eq!(told(call.expect("connected"), "four").await, OK);
}

async fn ends_with_its_time(running: &Running, method: &str) {
    let mut caller = connected(running).await;
    let call = caller.call_within(method, "100m").await;
    let told = told(call.expect("connected"), "never").await;
    assert_eq!(told, DEADLINE_EXCEEDED);
    until_counted(running, method, "DEADLINE_EXCEEDED", 1).await;
    until_active(running, 0).await;
}

async fn connected(running: &Running) -> Caller {
    let server = running.address.parse().expect("an address");
    Caller::connect(server).await.expect("it listens")
}

/// The status with which a call of that name ends.
async fn told(mut call: Call, name: &str) -> String {
    let name = name.to_owned();
    let request = HelloRequest { name }.encode_to_vec();
    let length = u32::try_from(request.len()).expect("a short message");
    call.end(message(length, &request));
    let status = timeout(BOUND, call.status()).await;
    status.expect("it ends").expect("it has a status")
}
