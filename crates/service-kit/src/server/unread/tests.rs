use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    future::{join, join_all},
    stream::poll_fn,
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{
    runtime::Handle,
    select,
    sync::{SemaphorePermit, mpsc},
    task::yield_now,
    time::{Instant, sleep},
};
use tonic::{Code, Status, body, transport::server::TcpConnectInfo};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    FORGOTTEN_AFTER, OfConnection, QUIET, REMEMBERED, Resets, STREAM_WINDOW, TakenBody, Unread,
};
use crate::{
    Telemetry,
    config::LimitsConfig,
    server::{
        messages::{MessageMemory, Messages},
        notice::Notice,
    },
};

/// For how long it does, if it looks at the connection.
const H2_REMEMBERS: Duration = Duration::from_secs(1);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

/// A call of a connection, whose caller sends by the one end as fast as it is taken.
fn request(resets: &Resets) -> (mpsc::Sender<Bytes>, Request<body::Body>) {
    let (caller, mut come) = mpsc::channel(1);
    let frames = poll_fn(move |task| {
        let come = come.poll_recv(task);
        come.map(|come| come.map(|data| Ok::<_, Status>(Frame::data(data))))
    });
    let mut request = Request::new(body::Body::new(StreamBody::new(frames)));
    let tcp = TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(PEER),
    };
    let of_connection = OfConnection {
        peer: tcp.into(),
        resets: resets.clone(),
        over: Notice::default(),
    };
    request.extensions_mut().insert(of_connection);
    (caller, request)
}

/// Answers without a look at what comes.
async fn answer(request: Request<body::Body>) -> Response<impl Sized> {
    let handler = service_fn(async |request: Request<TakenBody>| {
        let tcp = request.extensions().get::<TcpConnectInfo>();
        assert_eq!(tcp.and_then(TcpConnectInfo::remote_addr), Some(PEER));
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let answered = Unread.layer(handler).oneshot(request).await;
    answered.expect("an answer")
}

/// Whether all is taken that is said.
async fn is_heard(caller: &mpsc::Sender<Bytes>) -> bool {
    for _ in 0..10 {
        if caller.send(Bytes::from_static(b"more")).await.is_err() {
            return false;
        }
    }
    true
}

/// Time passes, in which these go on.
async fn pass(time: Duration, callers: &[mpsc::Sender<Bytes>]) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(QUIET / 8).await;
        for caller in callers {
            is_heard(caller).await;
        }
    }
}

/// None is left of these for as long as what is given lives.
async fn take_all(resets: &Resets) -> SemaphorePermit<'_> {
    let all = resets.places.acquire_many(REMEMBERED).await;
    all.expect("they are free")
}

#[tokio::test(start_paused = true)]
async fn what_still_comes_is_taken_until_h2_can_remember_that_the_call_was_reset() {
    let resets = Resets::default();
    let (mut callers, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..=2 * REMEMBERED {
        let (caller, request) = request(&resets);
        answers.push(answer(request).await);
        callers.push(caller);
    }
    for caller in &callers {
        assert!(is_heard(caller).await, "its answer has not left yet");
    }
    drop(answers);
    for left in [REMEMBERED + 1, 1, 0] {
        let mut heard = Vec::new();
        for caller in callers {
            if is_heard(&caller).await {
                heard.push(caller);
            }
        }
        callers = heard;
        assert_eq!(callers.len(), left as usize);
        pass(FORGOTTEN_AFTER + QUIET / 8, &callers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_no_more_goes_with_all_who_do_not() {
    let resets = Resets::default();
    let places = take_all(&resets).await;
    let mut callers = Vec::new();
    for _ in 0..8 * REMEMBERED {
        let (caller, request) = request(&resets);
        drop(answer(request).await);
        assert!(is_heard(&caller).await);
        callers.push(caller);
    }
    let open = || callers.iter().filter(|caller| !caller.is_closed()).count();
    sleep(2 * QUIET).await;
    assert_eq!(open(), callers.len());
    drop(places);
    sleep(QUIET / 8).await;
    assert_eq!(
        open(),
        1,
        "the first waits until h2 has forgotten the others"
    );
    sleep(FORGOTTEN_AFTER).await;
    assert_eq!(open(), 0);
    sleep(FORGOTTEN_AFTER).await;
    drop(take_all(&resets).await);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_a_second_that_are_left_open_are_never_as_many_as_a_connection_may_have() {
    let resets = Resets::default();
    let mut open = Vec::new();
    for _ in 0..3_000 {
        let (caller, request) = request(&resets);
        drop(answer(request).await);
        open.push(caller);
        sleep(Duration::from_millis(10)).await;
        open.retain(|caller| !caller.is_closed());
        let most = LimitsConfig::default().concurrent_streams.get() as usize;
        assert!(open.len() < most * 3 / 4, "{}", open.len());
    }
}

#[tokio::test(start_paused = true)]
async fn who_speaks_again_is_not_reset_with_those_who_do_not() {
    let resets = Resets::default();
    let places = take_all(&resets).await;
    let begin = async || {
        let (caller, request) = request(&resets);
        drop(answer(request).await);
        caller
    };
    let (first, silent, speaks, ends) =
        (begin().await, begin().await, begin().await, begin().await);
    sleep(2 * QUIET).await;
    assert!(is_heard(&speaks).await);
    drop(ends);
    drop(places);
    silent.closed().await;
    assert!(is_heard(&speaks).await);
    first.closed().await;
    assert!(is_heard(&speaks).await);
    speaks.closed().await;
    drop(take_all(&resets).await);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// When these were reset, who went on until then or had said all that they would.
async fn until_reset(callers: &[mpsc::Sender<Bytes>], go_on: bool) -> Vec<Instant> {
    let each = callers.iter().map(async |caller| {
        loop {
            select! {
                () = caller.closed() => return Instant::now(),
                () = sleep(QUIET / 8), if go_on => {
                    is_heard(caller).await;
                }
            }
        }
    });
    join_all(each).await
}

#[tokio::test(start_paused = true)]
async fn who_says_no_more_takes_nothing_of_what_h2_remembers_from_who_goes_on() {
    let resets = Resets::default();
    let begin = async |calls| {
        let mut callers = Vec::new();
        for _ in 0..calls {
            let (caller, request) = request(&resets);
            drop(answer(request).await);
            callers.push(caller);
        }
        callers
    };
    let going_on = begin(4 * REMEMBERED).await;
    pass(QUIET / 8, &going_on).await;
    let silent = begin(8 * REMEMBERED).await;
    let silent_since = Instant::now();
    let (going_on, silent) = join(until_reset(&going_on, true), until_reset(&silent, false)).await;
    for reset in &going_on {
        let before = going_on.iter().chain(&silent);
        let remembered = before
            .filter(|before| (*reset - H2_REMEMBERS..=*reset).contains(before))
            .count();
        assert!(
            remembered <= 2 * REMEMBERED as usize,
            "{remembered} at {reset:?}"
        );
    }
    let last = silent.iter().max().expect("some");
    assert!(
        *last - silent_since < 4 * QUIET,
        "{:?}",
        *last - silent_since
    );
}

#[tokio::test]
async fn while_an_answer_goes_on_no_more_is_taken_than_a_window() {
    const PIECE: u32 = STREAM_WINDOW / 16;
    let (caller, request) = request(&Resets::default());
    let answer = answer(request).await;
    let piece = Bytes::from(vec![7; PIECE as usize]);
    let mut taken = 0;
    while caller.send(piece.clone()).await.is_ok() {
        taken += PIECE;
        assert!(taken <= STREAM_WINDOW + 2 * PIECE);
    }
    assert!(taken >= STREAM_WINDOW);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn who_was_stopped_by_the_window_is_reset_with_its_answer_and_takes_a_place() {
    let resets = Resets::default();
    let (caller, request) = request(&resets);
    let answer = answer(request).await;
    let window = Bytes::from(vec![7; STREAM_WINDOW as usize]);
    caller.send(window).await.expect("it is taken");
    caller.closed().await;
    let free = || resets.places.available_permits();
    assert_eq!(free(), REMEMBERED as usize);
    drop(answer);
    sleep(FORGOTTEN_AFTER / 2).await;
    assert_eq!(free(), REMEMBERED as usize - 1);
    sleep(FORGOTTEN_AFTER).await;
    assert_eq!(free(), REMEMBERED as usize);
}

#[tokio::test]
async fn nothing_is_done_for_what_was_read_to_its_end() {
    let handler = service_fn(async |request: Request<TakenBody>| {
        let whole = request.into_body().collect().await.expect("a message");
        Ok::<_, Infallible>(Response::new(Full::new(whole.to_bytes())))
    });
    let (caller, request) = request(&Resets::default());
    let serving = Unread.layer(handler).oneshot(request);
    let said = async {
        caller
            .send(Bytes::from_static(b"all"))
            .await
            .expect("it is read");
        drop(caller);
    };
    let (answer, ()) = tokio::join!(serving, said);
    drop(answer.expect("an answer"));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn nothing_is_left_of_a_call_whose_caller_ends_it() {
    let (caller, request) = request(&Resets::default());
    let answer = answer(request).await;
    assert!(is_heard(&caller).await);
    let alive = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(alive(), 1);
    drop(caller);
    while alive() > 0 {
        yield_now().await;
    }
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_memory_is_refused_gives_back_what_it_has_while_more_comes() {
    const PIECE: u32 = 64 * 1024;
    let limits = LimitsConfig {
        message_memory: PIECE.try_into().expect("not zero"),
        ..LimitsConfig::default()
    };
    let telemetry = Telemetry::metrics_only().expect("metrics");
    let memory = MessageMemory::new(&limits, &telemetry.meter("test"));
    let handler = service_fn(async |request: Request<_>| {
        let refused = BodyExt::collect(request.into_body()).await;
        let refused: Status = refused.expect_err("it is too much");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let service = Messages::new(memory.clone()).layer(handler);
    // No place is left, so that what comes is taken for as long as it comes.
    let resets = Resets::default();
    let _places = take_all(&resets).await;
    let (caller, request) = request(&resets);
    let serving = Unread.layer(service).oneshot(request);
    let said = async {
        let promise = [&[0], u32::MAX.to_be_bytes().as_slice()].concat();
        for data in [promise, vec![7; PIECE as usize], vec![7; 1]] {
            caller.send(data.into()).await.expect("it is read");
        }
    };
    let (answer, ()) = tokio::join!(serving, said);
    drop(answer.expect("an answer"));
    assert_eq!(memory.taken_by(PEER.ip()), 0);
    assert!(is_heard(&caller).await);
}
