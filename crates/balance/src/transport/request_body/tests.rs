use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture, server::SendResponse};
use http_body::{Body, Frame};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{MessageLimit, RequestBody};
use crate::{
    status::{Code, Status},
    telemetry::MeasuredAttempt,
};

const BOUND: Duration = Duration::from_secs(5);
const WINDOW: usize = 65_535;

pub(super) type Script = UnboundedSender<io::Result<Frame<Bytes>>>;

/// A body that yields what it is sent.
pub(super) struct Scripted(UnboundedReceiver<io::Result<Frame<Bytes>>>);

impl Scripted {
    pub(super) fn new() -> (Script, Self) {
        let (send, receive) = unbounded_channel();
        (send, Self(receive))
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// A body of pieces that are all ready, which counts how many were taken.
struct Ready {
    piece: Bytes,
    pieces: usize,
    taken: Arc<AtomicUsize>,
}

impl Body for Ready {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.pieces == 0 {
            return Poll::Ready(None);
        }
        self.pieces -= 1;
        self.taken.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

/// One HTTP/2 connection in memory, with the default windows of 65,535 bytes.
struct Pair {
    client: h2::client::SendRequest<Bytes>,
    server: UnboundedReceiver<(RecvStream, SendResponse<Bytes>)>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Pair {
    async fn new() -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (accepted, server) = unbounded_channel();
        let serving = tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.expect("a client");
            while let Some(Ok((request, respond))) = connection.accept().await {
                let _ = accepted.send((request.into_body(), respond));
            }
        });
        let (client, driver) = h2::client::handshake(ours).await.expect("a server");
        let driving = tokio::spawn(async move { drop(driver.await) });
        Self {
            client,
            server,
            _tasks: [serving, driving].map(AbortOnDropHandle::new),
        }
    }

    /// Opens a stream: our side of it, and the server's.
    async fn open(
        &mut self,
    ) -> (
        (ResponseFuture, SendStream<Bytes>),
        (RecvStream, SendResponse<Bytes>),
    ) {
        let request = http::Request::post("http://greeter/a/b")
            .body(())
            .expect("a request");
        let ours = self.client.send_request(request, false).expect("open");
        (ours, self.server.recv().await.expect("accepted"))
    }
}

/// Reads until `size` bytes have come, and lets the client send no more for them.
async fn take(stream: &mut RecvStream, size: usize) {
    let mut come = 0;
    while come < size {
        let data = timeout(BOUND, stream.data()).await.expect("comes");
        come += data.expect("more").expect("data").len();
    }
    assert_eq!(come, size);
}

/// Reads to the end.
async fn read(mut stream: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = timeout(BOUND, stream.data()).await.expect("goes on") {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        all.extend(data);
    }
    Ok(all)
}

fn cancelled(read: &Result<Vec<u8>, h2::Error>) -> bool {
    matches!(read, Err(error) if error.is_remote() && error.reason() == Some(Reason::CANCEL))
}

fn prepare<B>(body: B) -> RequestBody<B>
where
    B: Body<Data = Bytes, Error = io::Error> + Send + Unpin + 'static,
{
    RequestBody::prepare(body, 1 << 20, None).expect("nothing wrong yet")
}

fn send(script: &Script, text: &'static str) {
    script
        .send(Ok(Frame::data(text.into())))
        .expect("it is read");
}

#[tokio::test]
async fn one_frame_and_the_end_is_sent_whole_and_often() {
    let mut pair = Pair::new().await;
    let (script, body) = Scripted::new();
    send(&script, "all");
    drop(script);
    let body = prepare(body);
    assert!(matches!(&body, RequestBody::Whole(all) if all == "all"));
    for attempt in 0..3 {
        let ((_response, stream), (request, _respond)) = pair.open().await;
        let _upload = body
            .send(stream, attempt, &mut MeasuredAttempt::default(), || ())
            .expect("open");
        assert_eq!(read(request).await.expect("all"), b"all");
    }
    assert!(body.is_replayable());
}

#[tokio::test]
async fn two_attempts_send_the_same_stream_at_the_same_time() {
    let mut pair = Pair::new().await;
    let (script, body) = Scripted::new();
    send(&script, "a");
    let body = prepare(body);
    let ((_response, stream), (first, _respond)) = pair.open().await;
    let _first = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let ((_response2, stream), (second, _respond2)) = pair.open().await;
    let _second = body
        .send(stream, 2, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let writing = async {
        for text in ["b", "c", "d"] {
            tokio::task::yield_now().await;
            send(&script, text);
        }
        drop(script);
    };
    let (first, second, ()) = tokio::join!(read(first), read(second), writing);
    assert_eq!(first.expect("all"), b"abcd");
    assert_eq!(second.expect("all"), b"abcd");
}

#[tokio::test]
async fn an_upload_that_waits_for_the_server_ends_when_another_attempt_wins() {
    let mut pair = Pair::new().await;
    let body = prepare(Ready {
        piece: vec![7; WINDOW].into(),
        pieces: 8,
        taken: Arc::default(),
    });
    let ((_response, stream), (mut loser, respond)) = pair.open().await;
    let _loser = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let ((_response2, stream), (winner, _respond2)) = pair.open().await;
    // The loser takes all of the connection's window, and waits for more.
    take(&mut loser, WINDOW).await;
    let _winner = body
        .send(stream, 2, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    assert!(body.commit(2));
    assert!(!body.is_replayable());
    let lost = read(loser).await;
    assert!(cancelled(&lost), "{lost:?}");
    // With its last handle the server gives the window back.
    drop(respond);
    assert_eq!(read(winner).await.expect("all").len(), 8 * WINDOW);
}

#[tokio::test]
async fn a_request_that_fails_resets_every_attempt_and_says_why() {
    let mut pair = Pair::new().await;
    let (script, body) = Scripted::new();
    let body = prepare(body);
    let ((response, stream), (first, _respond)) = pair.open().await;
    let _first = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let ((_response2, stream), (second, _respond2)) = pair.open().await;
    let upload = body
        .send(stream, 2, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    send(&script, "a");
    script
        .send(Err(io::Error::other("the disk is gone")))
        .expect("read");
    let (first, second) = tokio::join!(read(first), read(second));
    assert!(cancelled(&first), "{first:?}");
    assert!(cancelled(&second), "{second:?}");
    response.await.expect_err("reset");
    let why = Some(Status::new(
        Code::Internal,
        "the request could not be produced: the disk is gone",
    ));
    assert_eq!(body.failure(), why);
    assert_eq!(upload.failure(), why);
}

#[tokio::test]
async fn a_request_that_panics_fails_as_one_that_has_an_error() {
    struct Panics(bool);
    impl Body for Panics {
        type Data = Bytes;
        type Error = io::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            assert!(!std::mem::replace(&mut self.0, true), "as it is meant to");
            Poll::Pending
        }
    }
    let mut pair = Pair::new().await;
    let body = prepare(Panics(false));
    let ((response, stream), (request, _respond)) = pair.open().await;
    let _upload = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let read = read(request).await;
    assert!(cancelled(&read), "{read:?}");
    response.await.expect_err("reset");
    let status = body.failure().expect("it has failed");
    assert_eq!(
        status.message,
        "the request could not be produced: its stream panicked"
    );
}

#[tokio::test]
async fn a_server_that_ends_the_call_ends_its_upload_and_not_the_others() {
    let mut pair = Pair::new().await;
    let (script, body) = Scripted::new();
    let body = prepare(body);
    let ((response, stream), (_request, mut respond)) = pair.open().await;
    let first = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let ((_response2, stream), (second, _respond2)) = pair.open().await;
    let _second = body
        .send(stream, 2, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    respond.send_reset(Reason::REFUSED_STREAM);
    response.await.expect_err("reset");
    assert!(first.ended().await, "the first upload ends by itself");
    send(&script, "a");
    drop(script);
    assert_eq!(read(second).await.expect("all"), b"a");
}

#[tokio::test]
async fn no_more_is_taken_of_a_body_than_flow_control_lets_leave() {
    let mut pair = Pair::new().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let body = prepare(Ready {
        piece: vec![7; 1_000].into(),
        pieces: 10_000,
        taken: Arc::clone(&taken),
    });
    let ((_response, stream), (mut request, _respond)) = pair.open().await;
    let _upload = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    take(&mut request, WINDOW).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let most = WINDOW / 1_000 + 1;
    assert_eq!(taken.load(Ordering::SeqCst), most);
    request
        .flow_control()
        .release_capacity(WINDOW)
        .expect("it came");
    assert_eq!(read(request).await.expect("all").len(), 10_000_000 - WINDOW);
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_send_keeps_no_window_from_others() {
    let mut pair = Pair::new().await;
    let (script, quiet) = Scripted::new();
    for text in ["a", "b", "c"] {
        send(&script, text);
    }
    let quiet = prepare(quiet);
    let ((_response, stream), (mut request, _respond)) = pair.open().await;
    let _quiet = quiet
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    take(&mut request, 3).await;
    // Nothing is released: what the other call gets is all that is left of the connection's window.
    let large = prepare(Ready {
        piece: vec![7; WINDOW].into(),
        pieces: 2,
        taken: Arc::default(),
    });
    let ((_response2, stream), (mut request, _respond2)) = pair.open().await;
    let _large = large
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    take(&mut request, WINDOW - 3).await;
    drop(script);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_never_sent() {
    let limited = |script: Vec<&'static [u8]>| {
        let (sender, body) = Scripted::new();
        for piece in script {
            let frame = Frame::data(Bytes::from_static(piece));
            sender.send(Ok(frame)).expect("read");
        }
        let prepared = RequestBody::prepare(body, 1 << 20, Some(MessageLimit::new(3)));
        (sender, prepared)
    };
    let (_, refused) = limited(vec![b"\0\0\0\0\x04four"]);
    assert_eq!(
        refused.map(drop).expect_err("too large").code,
        Code::ResourceExhausted
    );

    let (_sender, streaming) = limited(vec![
        b"\0\0\0\0\x03two",
        b"\0\0\0\0\x03two",
        b"\0\0\0\0\x04four",
    ]);
    let body = streaming.expect("so far so good");
    let mut pair = Pair::new().await;
    let ((_response, stream), (request, _respond)) = pair.open().await;
    let _upload = body
        .send(stream, 1, &mut MeasuredAttempt::default(), || ())
        .expect("open");
    let read = read(request).await;
    assert!(cancelled(&read), "{read:?}");
    let status = body.failure().expect("it has failed");
    assert_eq!(status.code, Code::ResourceExhausted);
    assert!(status.message.contains("of 4 bytes"), "{status:?}");
}

impl super::Upload {
    /// Whether it ends without being dropped.
    async fn ended(self) -> bool {
        let streaming = self.0.expect("a stream");
        timeout(BOUND, streaming.task).await.is_ok()
    }
}
