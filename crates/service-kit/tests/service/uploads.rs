//! Requests that a server answers before they have come: what their callers still send, who cannot know of it yet, costs the
//! other calls of the connection nothing.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use prost::Message;
use proto::helloworld::HelloRequest;
use testkit::{
    frames::{Call, Caller, message},
    link::Link,
};
use tokio::{
    select,
    time::{interval, timeout},
};

use crate::{
    running::{BOUND, Running, config, start},
    server::{until_active, until_counted},
};

const SAY_HELLO: &str = "helloworld.Greeter/SayHello";
/// It is refused without a look at what comes.
const BIDI: &str = "helloworld.Greeter/SayHelloBidiStream";
const UPLOADS: u64 = 200;
/// What each caller sends before it hears of the answer: more than 1,024 in all, which are as many mistakes as h2 forgives, though
/// it remembers 50 calls that it has reset.
const STILL: usize = 10;
const OK: &str = "0";
const EXHAUSTED: &str = "8";
const FAILED_PRECONDITION: &str = "9";
/// RFC 9113, section 8.1: an answer is whole, and the rest of the request is not needed.
const NO_ERROR: u32 = 0;

#[tokio::test]
async fn uploads_that_memory_is_refused_end_no_other_call_of_their_connection() {
    let mut config = config();
    config.server.limits.message_memory = NonZeroU32::MIN;
    let running = start(config, |_| {}).await;
    let begun = message(1024 * 1024, &vec![0; 20_000]);
    let refused = ("RESOURCE_EXHAUSTED", EXHAUSTED);
    refused_at_once(&running, SAY_HELLO, begun, refused).await;
}

#[tokio::test]
async fn uploads_that_are_too_long_end_no_other_call_of_their_connection() {
    let running = start(config(), |_| {}).await;
    let begun = message(64 * 1024 * 1024, &[]);
    let refused = ("RESOURCE_EXHAUSTED", EXHAUSTED);
    refused_at_once(&running, SAY_HELLO, begun, refused).await;
}

#[tokio::test]
async fn uploads_that_nobody_reads_end_no_other_call_of_their_connection() {
    let running = start(config(), |_| {}).await;
    let refused = ("FAILED_PRECONDITION", FAILED_PRECONDITION);
    refused_at_once(&running, BIDI, message(1_000, &[]), refused).await;
}

#[tokio::test]
async fn who_goes_on_after_the_answer_is_told_to_stop() {
    let running = start(config(), |_| {}).await;
    let server = running.address.parse().expect("an address");
    let mut caller = Caller::connect(server).await.expect("it listens");
    let mut upload = caller.call(BIDI).await.expect("connected");
    assert_eq!(status(&mut upload).await, FAILED_PRECONDITION);
    let code = timeout(BOUND, upload.reset()).await;
    assert_eq!(code.expect("it is reset").expect("connected"), NO_ERROR);
}

/// Makes the calls, each of which sends what it begins with and then more, before it hears that it was refused; meanwhile another
/// call is under way on the connection.
async fn refused_at_once(
    running: &Running,
    method: &str,
    begun: Bytes,
    (name, number): (&str, &str),
) {
    let link = Link::to(&running.address).await.expect("a link");
    let server = link.address().parse().expect("an address");
    let mut caller = Caller::connect(server).await.expect("it listens");
    let greeting = HelloRequest {
        name: "four".to_owned(),
    };
    let greeting = message(6, &greeting.encode_to_vec());
    // With its answer the server's settings have come, and with them room for all that is sent.
    let mut first = caller.call(SAY_HELLO).await.expect("connected");
    first.end(greeting.clone());
    assert_eq!(status(&mut first).await, OK);
    let mut innocent = caller.call(SAY_HELLO).await.expect("connected");
    link.hold_back();

    let mut uploads = Vec::new();
    for _ in 0..UPLOADS {
        let mut upload = caller.call(method).await.expect("connected");
        upload.say(begun.clone());
        uploads.push(upload);
    }
    let counted = until_counted(running, method, name, UPLOADS);
    select! {
        () = counted => {}
        () = go_on(&mut uploads) => {}
    }
    for _ in 0..STILL {
        for upload in &mut uploads {
            upload.say(&[0; 1_000][..]);
        }
    }
    // h2 sends a frame of each call in turn: the last of this one's is sent after theirs.
    let (last, pieces) = greeting.split_last().expect("it is not empty");
    assert!(pieces.len() >= STILL);
    for piece in pieces {
        innocent.say(vec![*piece]);
    }
    innocent.end(vec![*last]);
    until_active(running, 0).await;

    link.mend();
    for upload in &mut uploads {
        assert_eq!(status(upload).await, number);
    }
    assert_eq!(status(&mut innocent).await, OK);
}

/// Says a byte of each, and again before any of them is taken for silent, however long it takes until all are refused.
async fn go_on(uploads: &mut [Call]) {
    let mut again = interval(Duration::from_millis(500));
    loop {
        again.tick().await;
        for upload in &mut *uploads {
            upload.say(&[0; 1][..]);
        }
    }
}

async fn status(call: &mut Call) -> String {
    let status = timeout(BOUND, call.status()).await;
    status.expect("it ends").expect("it has a status")
}
