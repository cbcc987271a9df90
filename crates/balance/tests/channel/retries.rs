//! Calls that are tried again as a policy says (gRFC A6), and those that are not.

use std::{sync::atomic::Ordering, time::Duration};

use balance::{Channel, HashKey};
use proto::helloworld::HelloRequest;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request};

use crate::{BOUND, bound, call, client, hello, server::Server, to, to_with, until, until_ready};

/// Has a call that is refused as "never" is made so many times in all, each so long after the last.
fn retrying(attempts: u32, backoff: &str) -> String {
    format!(
        r#""methodConfig":[{{"name":[{{}}],"retryPolicy":{{"maxAttempts":{attempts},"initialBackoff":"{backoff}",
        "maxBackoff":"{backoff}","backoffMultiplier":1,"retryableStatusCodes":["FAILED_PRECONDITION"]}}}}]"#
    )
}

#[tokio::test]
async fn a_call_is_retried_as_its_policy_says_and_the_server_is_told() {
    let server = Server::start().await;
    let json = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s",
        "maxBackoff":"0.1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
    call(&to_with(&[&server.address], json), "third time")
        .await
        .expect("the third attempt is answered");
    assert_eq!(server.seen.calls.load(Ordering::SeqCst), 3);
    assert_eq!(server.seen.previous_attempts.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn without_a_policy_a_call_that_an_application_refused_is_not_retried() {
    let server = Server::start().await;
    let status = call(&to(&[&server.address]), "third time").await;
    let status = status.expect_err("refused");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "not yet")
    );
    assert_eq!(server.seen.calls.load(Ordering::SeqCst), 1);
}

/// How many attempts a call makes that its server refuses each time.
async fn attempts(server: &Server, channel: &Channel) -> usize {
    let before = server.seen.calls.load(Ordering::SeqCst);
    call(channel, "never").await.expect_err("refused");
    server.seen.calls.load(Ordering::SeqCst) - before
}

#[tokio::test]
async fn a_service_that_fails_too_much_is_not_asked_again_until_it_has_answered() {
    let server = Server::start().await;
    let config = format!(
        r#"{{"retryThrottling":{{"maxTokens":4,"tokenRatio":1}},{}}}"#,
        retrying(5, "0.01s")
    );
    let channel = to_with(&[&server.address], &config);
    // The first call begins before there is a picker, and its tokens are counted all the same. There are retries while more than two tokens are left.
    assert_eq!(attempts(&server, &channel).await, 2, "to three, and to two");
    assert_eq!(attempts(&server, &channel).await, 1, "to one");
    for _ in 0..2 {
        call(&channel, "x").await.expect("an answer");
    }
    assert_eq!(attempts(&server, &channel).await, 1, "from three to two");
    for _ in 0..2 {
        call(&channel, "x").await.expect("an answer");
    }
    assert_eq!(attempts(&server, &channel).await, 2, "all were there again");
}

#[tokio::test]
async fn a_deadline_in_a_backoff_ends_the_call() {
    const DEADLINE: Duration = Duration::from_secs(5);
    let server = Server::start().await;
    let config = format!("{{{}}}", retrying(2, "3600s"));
    let channel = to_with(&[&server.address], &config);
    let mut request = hello("never");
    request.set_timeout(DEADLINE);
    let mut client = client(&channel);
    let began = Instant::now();
    let answer = tokio::spawn(async move { client.say_hello(request).await });
    until("it waits to be tried again", || {
        let endpoints = channel.explain().endpoints;
        server.seen.calls.load(Ordering::SeqCst) == 1
            && endpoints.iter().all(|endpoint| endpoint.in_flight == 0)
    })
    .await;
    tokio::time::pause();
    let answer = timeout(BOUND, answer).await.expect("the call ends");
    let took = began.elapsed();
    let status = answer.expect("runs").expect_err("it is too late");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let at_the_deadline = DEADLINE..DEADLINE + Duration::from_secs(1);
    assert!(at_the_deadline.contains(&took), "{took:?}");
    assert_eq!(server.seen.calls.load(Ordering::SeqCst), 1);
}

fn keyed(name: &str, key: u64) -> Request<HelloRequest> {
    let mut request = hello(name);
    request
        .extensions_mut()
        .insert(HashKey::of(key.to_string()));
    request
}

#[tokio::test]
async fn the_attempt_after_one_that_failed_goes_elsewhere_whatever_the_call_is_bound_to() {
    let servers = [Server::start().await, Server::start().await];
    let config = format!(
        r#"{{"loadBalancingConfig":[{{"ring_hash":{{}}}}],{}}}"#,
        retrying(2, "0.01s")
    );
    let channel = to_with(&[&servers[0].address, &servers[1].address], &config);
    // A ring connects those that calls fall on.
    for key in 0..20 {
        let answer = client(&channel).say_hello(keyed("x", key)).await;
        answer.expect("an answer");
    }
    until_ready(&channel, 2).await;
    let calls = || {
        let each = servers.each_ref();
        each.map(|server| server.seen.calls.load(Ordering::SeqCst))
    };
    for key in 0..10 {
        for request in [keyed("never", key), bound("never", &servers[0].address)] {
            let once_each = calls().map(|before| before + 1);
            let answer = client(&channel).say_hello(request).await;
            answer.expect_err("both refuse");
            assert_eq!(calls(), once_each);
        }
    }
}
