//! A connection to a peer that stops and goes on as the test says; time is paused.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, SendStream, client::ResponseFuture, server::SendResponse};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, watch},
    time::{Instant, advance, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Availability, Connection, Driving};
use crate::{
    KeepAlive,
    status::{Code, Status},
    transport::{ConnectOptions, Stream, keep_alive::Pace},
};

const SECOND: Duration = Duration::from_secs(1);

/// What a peer does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer,
    Hang,
    GoAway(Reason),
}

/// The other side of a connection. It keeps each call open for as long as it lives.
struct Peer {
    does: watch::Sender<Does>,
    calls: mpsc::Receiver<SendResponse<Bytes>>,
    _task: AbortOnDropHandle<()>,
}

impl Peer {
    fn to(&self, does: Does) {
        self.does.send_replace(does);
    }
}

async fn connect(options: &ConnectOptions, limit: Option<u32>) -> (Arc<Connection>, Peer) {
    let (near, far) = duplex(64 << 10);
    let (does, mut orders) = watch::channel(Does::Answer);
    let (tells, calls) = mpsc::channel(100);
    let task = tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        if let Some(limit) = limit {
            builder.max_concurrent_streams(limit);
        }
        let mut server = builder
            .handshake::<_, Bytes>(far)
            .await
            .expect("an HTTP/2 client");
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Does::Answer => {}
                Does::Hang => {
                    if orders.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                Does::GoAway(Reason::NO_ERROR) => server.graceful_shutdown(),
                Does::GoAway(reason) => server.abrupt_shutdown(reason),
            }
            tokio::select! {
                call = server.accept() => match call {
                    Some(Ok((_, respond))) => tells.send(respond).await.expect("the test goes on"),
                    Some(Err(_)) | None => return,
                },
                changed = orders.changed() => if changed.is_err() { return },
            }
        }
    });
    let connection = Driving::start(near, "peer:1", options)
        .await
        .expect("a handshake")
        .answered()
        .await
        .expect("an answer");
    let peer = Peer {
        does,
        calls,
        _task: AbortOnDropHandle::new(task),
    };
    (Arc::new(connection), peer)
}

/// A peer that says at once that there were too many PINGs, frame by frame: h2's own server says nothing beside its reason.
async fn pinged_too_often(mut far: DuplexStream) {
    far.read_exact(&mut [0; 24]).await.expect("the preface");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    far.write_all(&settings).await.expect("room");
    // GOAWAY: last stream 0, ENHANCE_YOUR_CALM, and why.
    let go_away = [0, 0, 22, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    far.write_all(&go_away).await.expect("room");
    far.write_all(b"too_many_pings").await.expect("room");
    far.read_to_end(&mut Vec::new()).await.expect("its end");
}

fn options(keep_alive: KeepAlive) -> ConnectOptions {
    ConnectOptions::default().with_keep_alive(keep_alive)
}

/// Begins a call; it lasts while what is given back is kept.
async fn call(connection: &Arc<Connection>) -> (ResponseFuture, SendStream<Bytes>, Stream) {
    let stream = connection.stream().await.expect("open");
    let request = http::Request::post("http://peer/greet").body(());
    let opened = stream.open(request.expect("a request"));
    let (response, body) = opened.unwrap_or_else(|_| panic!("not closed"));
    (response, body, stream)
}

/// Waits for `availability`, and says how long that took.
async fn until(connection: &Connection, availability: Availability) -> Duration {
    let began = Instant::now();
    while connection.availability() != availability {
        let change = connection.changed(connection.availability());
        timeout(Duration::from_hours(1), change)
            .await
            .unwrap_or_else(|_| panic!("never {availability:?}"));
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_passed_over_then_not_picked_then_closed_and_its_calls_say_why() {
    let (connection, peer) = connect(&ConnectOptions::default(), None).await;
    let (response, _body, _stream) = call(&connection).await;
    peer.to(Does::Hang);
    advance(SECOND).await;
    let began = Instant::now();
    advance(SECOND).await;
    connection.suspect(began);
    until(&connection, Availability::Suspected).await;
    let patience = until(&connection, Availability::Silent).await;
    assert!((249..=252).contains(&patience.as_millis()), "{patience:?}");
    assert!(connection.is_open());
    let closed = until(&connection, Availability::Closed).await;
    assert!(
        (19_700..=19_800).contains(&closed.as_millis()),
        "{closed:?}"
    );
    let error = response.await.expect_err("nobody answers");
    let status = Status::from_h2(connection.peer(), &error);
    assert_eq!(status.code, Code::Unavailable);
    assert_eq!(status.message, "peer:1: no PING was answered for 20s");
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_is_picked_again_when_it_has_answered() {
    let (connection, peer) = connect(&ConnectOptions::default(), None).await;
    let (mut response, _body, _stream) = call(&connection).await;
    peer.to(Does::Hang);
    let began = Instant::now();
    advance(SECOND).await;
    connection.suspect(began);
    until(&connection, Availability::Silent).await;
    advance(10 * SECOND).await;
    assert_eq!(connection.availability(), Availability::Silent);
    peer.to(Does::Answer);
    until(&connection, Availability::Open).await;
    advance(60 * SECOND).await;
    assert!(timeout(SECOND, &mut response).await.is_err(), "it lasts");
    assert_eq!(connection.availability(), Availability::Open);
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_is_held_against_nobody_who_answers_the_ping() {
    let (connection, mut peer) = connect(&ConnectOptions::default(), None).await;
    let _call = call(&connection).await;
    let _hanging_application = peer.calls.recv().await;
    let old = connection.line.heard();
    for _ in 0..1_000 {
        let began = Instant::now();
        advance(SECOND / 100).await;
        connection.suspect(began);
        tokio::task::yield_now().await;
        assert_ne!(connection.availability(), Availability::Silent);
    }
    until(&connection, Availability::Open).await;
    let heard = connection.line.heard();
    assert_eq!(heard, old + 2 * 17, "two answers, and no third question");
}

#[tokio::test(start_paused = true)]
async fn who_answered_another_call_is_suspected_only_when_that_was_long_ago() {
    let (connection, mut peer) = connect(&ConnectOptions::default(), None).await;
    for (answered_after, suspected) in [(10, true), (600, false)] {
        let began = Instant::now();
        let (response, _body, _stream) = call(&connection).await;
        let mut respond = peer.calls.recv().await.expect("the call");
        advance(Duration::from_millis(answered_after)).await;
        let answer = respond.send_response(http::Response::new(()), true);
        answer.expect("a stream");
        response.await.expect("the answer");
        advance(Duration::from_millis(1_000 - answered_after)).await;
        connection.suspect(began);
        let is_suspected = connection.availability() == Availability::Suspected;
        assert_eq!(is_suspected, suspected, "{answered_after} ms");
        until(&connection, Availability::Open).await;
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alive_finds_a_hung_peer_without_any_call_when_that_is_asked_for() {
    let keep_alive = KeepAlive::every(10 * SECOND).with_timeout(5 * SECOND);
    let (idle, peer) = connect(&options(keep_alive), None).await;
    let heard = idle.line.heard();
    assert!(timeout(60 * SECOND, idle.closed()).await.is_err());
    assert_eq!(
        idle.line.heard(),
        heard,
        "not asked while there are no calls"
    );
    let _call = call(&idle).await;
    peer.to(Does::Hang);
    let closed = until(&idle, Availability::Closed).await;
    assert!(closed <= 25 * SECOND + SECOND / 10, "{closed:?}");

    let (asked, peer) = connect(&options(keep_alive.without_calls(true)), None).await;
    let heard = asked.line.heard();
    assert!(timeout(65 * SECOND, asked.closed()).await.is_err());
    assert_eq!(
        asked.line.heard(),
        heard + 6 * 17,
        "six questions, six answers"
    );
    peer.to(Does::Hang);
    let closed = until(&asked, Availability::Closed).await;
    assert!(closed <= 10 * SECOND, "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_pinged_too_often_is_pinged_half_as_often() {
    let options = options(KeepAlive::every(10 * SECOND));
    let other = options.for_endpoint();
    let (near, far) = duplex(64 << 10);
    let peer = tokio::spawn(pinged_too_often(far));
    let driving = Driving::start(near, "peer:1", &options)
        .await
        .expect("a handshake");
    driving.answered().await.expect_err("sent away");
    peer.await.expect("says all");
    assert_eq!(options.pace.interval(), Some(20 * SECOND));
    assert_eq!(other.pace.interval(), Some(10 * SECOND));

    let (connection, peer) = connect(&other, None).await;
    peer.to(Does::GoAway(Reason::ENHANCE_YOUR_CALM));
    connection.closed().await;
    assert_eq!(other.pace.interval(), Some(10 * SECOND), "not about pings");
}

#[tokio::test(start_paused = true)]
async fn a_goaway_is_seen_without_any_call_and_calls_that_wait_for_a_stream_are_told() {
    let (connection, mut peer) = connect(&ConnectOptions::default(), Some(1)).await;
    assert_eq!(connection.stream_limit(), Some(1));
    let (mut response, _body, _stream) = call(&connection).await;
    let _unanswered = peer.calls.recv().await;
    assert_eq!(connection.streams(), 1);
    assert!(connection.try_stream().is_none(), "the one stream is taken");
    let waiting = connection.stream();
    let (waited, ()) = tokio::join!(timeout(SECOND, waiting), async {
        peer.to(Does::GoAway(Reason::NO_ERROR));
    });
    assert!(waited.expect("told at once").is_none());
    assert_eq!(connection.availability(), Availability::Closed);
    let lasts = timeout(SECOND, &mut response).await;
    assert!(lasts.is_err(), "the call that it has finishes: {lasts:?}");
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_connection_that_nobody_uses_ends_even_when_its_peer_hangs() {
    let (connection, peer) = connect(&ConnectOptions::default(), None).await;
    let line = Arc::downgrade(&connection.line);
    let (response, mut body, stream) = call(&connection).await;
    peer.to(Does::Hang);
    // More than the pipe takes, so that h2 can write nothing any more.
    body.send_data(vec![0; 1 << 20].into(), true).expect("open");
    advance(SECOND).await;
    drop((connection, stream, response, body));
    let ended = timeout(30 * SECOND, async {
        while line.strong_count() > 0 {
            tokio::time::sleep(SECOND).await;
        }
    });
    ended.await.expect("within the keep-alive timeout");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_the_first_ping_is_no_connection() {
    let (near, _far) = duplex(64 << 10);
    let pace = Pace::new(KeepAlive::default().with_timeout(SECOND));
    let options = ConnectOptions {
        pace,
        ..ConnectOptions::default()
    };
    let driving = Driving::start(near, "peer:1", &options)
        .await
        .expect("nothing is needed of the peer");
    let failed = driving.answered().await.expect_err("nobody is there");
    assert!(
        failed.to_string().contains("no PING was answered"),
        "{failed}"
    );
}
