//! Calls of our own against a peer that answers by a script.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{SendStream, server::SendResponse};
use http::Response;
use registry::BackoffPolicy;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Connection, Event, Messages, Stopped, Subscription,
    framing::framed,
    peer::{BOUND, connected, end, given_up, head, open, refuse, send},
};
use crate::status::{Code, Status};

const PATH: &str = "/test.Test/Watch";

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Number {
    #[prost(uint32, tag = "1")]
    value: u32,
}

async fn call(connection: &Arc<Connection>) -> Result<Messages<Number>, Status> {
    let request = framed(&Number { value: 7 });
    let head = head();
    let opened = Messages::open(connection, &head, PATH, request);
    timeout(BOUND, opened).await.expect("an answer in time")
}

async fn next(messages: &mut Messages<Number>) -> Result<u32, Status> {
    let next = timeout(BOUND, messages.next()).await;
    Ok(next.expect("an answer in time")?.value)
}

#[tokio::test]
async fn a_call_says_what_grpc_asks_for_and_reads_messages_until_the_status() {
    let (connection, _peer) = connected(|_, mut request, mut respond| async move {
        let said = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "http://greeter/test.Test/Watch");
        assert_eq!(
            [said("te"), said("content-type"), said("user-agent")],
            ["trailers", "application/grpc", "test"]
        );
        let body = request.body_mut().data().await;
        let body = body.expect("a request").expect("open");
        assert_eq!(body, framed(&Number { value: 7 }));
        assert!(request.body().is_end_stream());
        let mut stream = open(&mut respond);
        send(&mut stream, &Number { value: 1 });
        send(&mut stream, &Number { value: 2 });
        end(&mut stream, Code::Aborted);
    })
    .await;
    let mut messages = call(&connection).await.expect("an answer");
    assert_eq!(next(&mut messages).await, Ok(1));
    assert_eq!(next(&mut messages).await, Ok(2));
    let ended = next(&mut messages).await.expect_err("no more");
    assert_eq!(ended.code, Code::Aborted);
}

#[tokio::test]
async fn a_status_in_the_headers_is_the_end() {
    let (connection, _peer) = connected(|_, _, mut respond| async move {
        refuse(&mut respond, Code::Unimplemented);
    })
    .await;
    let mut messages = call(&connection).await.expect("an answer");
    let ended = next(&mut messages).await.expect_err("no message");
    assert_eq!(ended.code, Code::Unimplemented);
}

/// Answers a call with what no server should send.
type Rubbish = fn(&mut SendResponse<Bytes>);

fn with_data(respond: &mut SendResponse<Bytes>, data: &'static [u8]) -> SendStream<Bytes> {
    let mut stream = open(respond);
    stream.send_data(data.into(), false).expect("open");
    stream
}

const RUBBISH: [(&str, Code, Rubbish); 9] = [
    ("HTTP status 404", Code::Unimplemented, |respond| {
        let response = Response::builder().status(404).body(()).expect("valid");
        respond.send_response(response, true).expect("open");
    }),
    ("HTTP status 200", Code::Unknown, |respond| {
        let response = Response::builder().header("content-type", "text/html");
        let response = response.body(()).expect("valid");
        respond.send_response(response, true).expect("open");
    }),
    ("compressed flag 1", Code::Internal, |respond| {
        end(&mut with_data(respond, &[1, 0, 0, 0, 0]), Code::Ok);
    }),
    ("4294967295 bytes", Code::ResourceExhausted, |respond| {
        end(&mut with_data(respond, &[0, 255, 255, 255, 255]), Code::Ok);
    }),
    ("no such message", Code::Internal, |respond| {
        end(
            &mut with_data(respond, &[0, 0, 0, 0, 2, 255, 255]),
            Code::Ok,
        );
    }),
    ("ended within a message", Code::Internal, |respond| {
        end(&mut with_data(respond, &[0, 0, 0, 0, 9, 1]), Code::Ok);
    }),
    ("ended without a status", Code::Internal, |respond| {
        let mut stream = open(respond);
        stream.send_data(Bytes::new(), true).expect("open");
    }),
    ("trailers have no status", Code::Internal, |respond| {
        let trailers = http::HeaderMap::from_iter([(
            http::header::SERVER,
            http::HeaderValue::from_static("rubbish"),
        )]);
        open(respond).send_trailers(trailers).expect("open");
    }),
    ("", Code::Internal, |respond| {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }),
];

#[tokio::test]
async fn rubbish_ends_its_call_by_a_status_that_says_what_was_wrong_and_no_other_call() {
    let (connection, _peer) = connected(|number, _, mut respond| async move {
        if let Some((_, _, rubbish)) = RUBBISH.get(number) {
            return rubbish(&mut respond);
        }
        let mut stream = open(&mut respond);
        send(&mut stream, &Number { value: 1 });
        end(&mut stream, Code::Ok);
    })
    .await;
    for (says, code, _) in RUBBISH {
        let ended = match call(&connection).await {
            Ok(mut messages) => next(&mut messages).await.expect_err("rubbish"),
            Err(status) => status,
        };
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.message.contains(says), "{says}: {ended:?}");
        assert!(ended.message.contains(&**connection.peer()), "{ended:?}");
    }
    let mut messages = call(&connection).await.expect("an answer");
    assert_eq!(next(&mut messages).await, Ok(1));
}

#[tokio::test]
async fn a_call_holds_its_stream_until_it_is_dropped_and_is_cancelled_then() {
    let (tell, mut told) = mpsc::channel(4);
    let (connection, _peer) = connected(move |_, _, mut respond| {
        let tell = tell.clone();
        async move {
            let mut stream = open(&mut respond);
            send(&mut stream, &Number { value: 1 });
            let reason = given_up(&mut stream).await;
            tell.send(reason).await.expect("the test waits");
        }
    })
    .await;
    let mut first = call(&connection).await.expect("an answer");
    assert_eq!(next(&mut first).await, Ok(1));
    // The peer allows one stream at a time.
    let mut second = Box::pin(call(&connection));
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    let mut second = second.await.expect("an answer");
    assert_eq!(next(&mut second).await, Ok(1));
    let reset = timeout(BOUND, told.recv()).await.expect("in time");
    assert_eq!(reset, Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_message_that_comes_in_pieces_survives_a_reader_that_looks_away() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let (connection, _peer) = connected(move |_, _, mut respond| {
        let mut gone = gone.clone();
        async move {
            let message = framed(&Number { value: 300 });
            let mut stream = open(&mut respond);
            let (begin, rest) = (message.slice(..6), message.slice(6..));
            stream.send_data(begin, false).expect("open");
            gone.wait_for(|gone| *gone).await.expect("the test waits");
            stream.send_data(rest, false).expect("open");
            end(&mut stream, Code::Ok);
        }
    })
    .await;
    let mut messages = call(&connection).await.expect("an answer");
    while messages.framing.is_empty() {
        assert!(
            timeout(Duration::from_millis(1), messages.next())
                .await
                .is_err()
        );
    }
    go.send_replace(true);
    assert_eq!(next(&mut messages).await, Ok(300));
    let ended = next(&mut messages).await.expect_err("no more");
    assert_eq!(ended.code, Code::Ok);
}

const WAIT: Duration = Duration::from_millis(20);

fn subscription() -> Subscription {
    let backoff = BackoffPolicy {
        initial: WAIT,
        max: WAIT * 1_000,
        multiplier: 10.0,
        jitter: 0.0,
    };
    Subscription::new(head(), PATH, &Number { value: 7 }, backoff)
}

/// What a subscription told, until it stopped, and when.
async fn followed(connection: &Arc<Connection>) -> (Vec<(Instant, Result<u32, Code>)>, Stopped) {
    let mut told = Vec::new();
    let subscription = subscription();
    let stopped = subscription.follow(connection, |event| {
        let event = match event {
            Event::Message(Number { value }) => Ok(value),
            Event::Ended(status) => Err(status.code),
        };
        told.push((Instant::now(), event));
    });
    let stopped = timeout(BOUND, stopped).await.expect("stops in time");
    (told, stopped)
}

#[tokio::test]
async fn a_call_that_ends_is_made_again_with_growing_waits_which_a_message_resets() {
    let (connection, _peer) = connected(|number, _, mut respond| async move {
        match number {
            0..2 => refuse(&mut respond, Code::Unavailable),
            2 => {
                let mut stream = open(&mut respond);
                send(&mut stream, &Number { value: 1 });
                end(&mut stream, Code::Ok);
            }
            _ => refuse(&mut respond, Code::Unimplemented),
        }
    })
    .await;
    let began = Instant::now();
    let (told, stopped) = followed(&connection).await;
    let ended = Instant::now();
    assert!(
        matches!(&stopped, Stopped::Unimplemented(status) if status.code == Code::Unimplemented),
        "{stopped:?}"
    );
    let (times, events): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    assert_eq!(
        events,
        [
            Err(Code::Unavailable),
            Err(Code::Unavailable),
            Ok(1),
            Err(Code::Ok)
        ]
    );
    // The waits are 1, 10, and then 1 again; it would be 100.
    for (event, waited) in [(1, 1), (2, 11)] {
        let after = times[event] - began;
        assert!(after >= WAIT * waited, "{event} came after {after:?}");
    }
    let last = ended - times[3];
    assert!(ended - began >= WAIT * 12 && last < WAIT * 100, "{last:?}");
}

#[tokio::test]
async fn a_server_that_ends_every_call_after_a_message_is_not_called_without_a_pause() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let (connection, _peer) = connected(move |number, _, mut respond| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if number == 5 {
                return refuse(&mut respond, Code::Unimplemented);
            }
            let mut stream = open(&mut respond);
            send(&mut stream, &Number { value: 1 });
            end(&mut stream, Code::Ok);
        }
    })
    .await;
    let began = Instant::now();
    followed(&connection).await;
    assert_eq!(calls.load(Ordering::Relaxed), 6);
    assert!(began.elapsed() >= WAIT * 5, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_subscription_ends_with_its_connection() {
    let (connection, peer) = connected(|_, _, mut respond| async move {
        let mut stream = open(&mut respond);
        send(&mut stream, &Number { value: 1 });
        given_up(&mut stream).await;
    })
    .await;
    let peer = std::sync::Mutex::new(Some(peer));
    let subscription = subscription();
    let stopped = subscription.follow(&connection, |event| {
        assert!(matches!(event, Event::Message(Number { value: 1 })));
        drop(peer.lock().expect("unpoisoned").take());
    });
    let stopped = timeout(BOUND, stopped).await.expect("stops in time");
    assert!(matches!(stopped, Stopped::Closed), "{stopped:?}");
}
