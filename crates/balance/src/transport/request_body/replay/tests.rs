use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http_body::Frame;
use proptest::prelude::*;

use super::{Failing, Next, Reader, Record, Replay};
use crate::{
    status::Code,
    transport::request_body::tests::{Script, Scripted},
};

/// A stream of which nothing has been read, and what writes it.
fn stream(limit: usize) -> (Script, Arc<Replay<Scripted>>) {
    let (script, body) = Scripted::new();
    let replay = Replay::new(body, std::iter::empty(), limit, None).expect("nothing to refuse");
    (script, Arc::new(replay))
}

fn data(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 100])
}

fn send(script: &Script, data: Bytes) {
    script.send(Ok(Frame::data(data))).expect("it is read");
}

/// An attempt, and whether it was woken since it was last polled.
struct Attempt {
    reader: Reader<Scripted>,
    held: Arc<()>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Attempt {
    fn new(replay: &Arc<Replay<Scripted>>, number: u32) -> Self {
        let held = Arc::new(());
        Self {
            reader: Replay::read(replay, number, &held),
            held,
            woken: Arc::default(),
        }
    }

    fn poll(&self) -> Poll<Next> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        self.reader.poll_next(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }
}

fn yields(byte: u8) -> Poll<Next> {
    Poll::Ready(Next::Data(data(byte)))
}

#[test]
fn a_later_attempt_reads_from_the_beginning_what_an_earlier_one_has_read() {
    let (script, replay) = stream(1_000);
    send(&script, data(1));
    send(&script, data(2));
    drop(script);
    let first = Attempt::new(&replay, 1);
    assert_eq!(first.poll(), yields(1));
    drop(first);
    let second = Attempt::new(&replay, 2);
    assert_eq!(second.poll(), yields(1));
    assert_eq!(second.poll(), yields(2));
    assert_eq!(second.poll(), Poll::Ready(Next::End(None)));
    let third = Attempt::new(&replay, 3);
    assert_eq!(third.poll(), yields(1));
    assert!(replay.is_replayable());
}

#[test]
fn a_frame_wakes_all_that_wait_though_the_body_knows_only_who_asked_last() {
    let (script, replay) = stream(1_000);
    let (first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    assert_eq!(first.poll(), Poll::Pending);
    assert_eq!(second.poll(), Poll::Pending);
    send(&script, data(1));
    assert!(second.is_woken());
    assert_eq!(second.poll(), yields(1));
    assert!(first.is_woken());
    assert_eq!(first.poll(), yields(1));
}

#[test]
fn who_leaves_has_another_ask_the_body() {
    let (script, replay) = stream(1_000);
    let (first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    assert_eq!(first.poll(), Poll::Pending);
    assert_eq!(second.poll(), Poll::Pending);
    send(&script, data(1));
    drop(second);
    assert!(first.is_woken());
    assert_eq!(first.poll(), yields(1));
}

#[test]
fn commitment_frees_what_was_sent_and_then_each_frame_as_it_is_sent() {
    let (script, replay) = stream(1_000);
    let (first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    let frames = [1, 2, 3].map(data);
    for frame in &frames {
        send(&script, frame.clone());
    }
    for _ in &frames {
        assert!(first.poll().is_ready());
    }
    assert_eq!(second.poll(), yields(1));
    assert!(frames.iter().all(|frame| !frame.is_unique()));

    assert!(replay.commit(2));
    let kept = || frames.each_ref().map(|frame| !frame.is_unique());
    assert_eq!(kept(), [false, true, true]);
    assert_eq!(second.poll(), yields(2));
    assert_eq!(kept(), [false, false, true]);
    assert_eq!(second.poll(), yields(3));
    assert_eq!(kept(), [false; 3]);
    send(&script, frames[0].clone());
    assert_eq!(second.poll(), yields(1));
    assert_eq!(kept(), [false; 3], "no longer recorded");
}

#[test]
fn commitment_ends_the_others_and_is_final() {
    let (_script, replay) = stream(1_000);
    let (first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    assert_eq!(first.poll(), Poll::Pending);
    assert_eq!(second.poll(), Poll::Pending);
    assert!(replay.commit(2));
    assert!(first.is_woken());
    assert_eq!(first.poll(), Poll::Ready(Next::Stopped));
    assert_eq!(second.poll(), Poll::Pending);
    assert!(!replay.is_replayable());
    assert!(!replay.commit(1));
    assert!(replay.commit(2));
}

#[test]
fn commitment_to_an_attempt_that_has_sent_all_keeps_nothing() {
    let (script, replay) = stream(1_000);
    let frame = data(1);
    send(&script, frame.clone());
    drop(script);
    let only = Attempt::new(&replay, 1);
    assert!(only.poll().is_ready());
    assert_eq!(only.poll(), Poll::Ready(Next::End(None)));
    drop(only);
    assert!(!frame.is_unique(), "another attempt may come");
    replay.commit(1);
    assert!(frame.is_unique());
}

#[test]
fn an_attempt_that_ends_once_it_is_committed_to_drops_the_body() {
    let (script, replay) = stream(1_000);
    let only = Attempt::new(&replay, 1);
    replay.commit(1);
    assert!(!script.is_closed());
    drop(only);
    assert!(script.is_closed());
}

#[test]
fn a_call_that_is_committed_before_it_is_sent_is_sent_whole() {
    let (script, replay) = stream(1_000);
    replay.commit(1);
    send(&script, data(1));
    let only = Attempt::new(&replay, 1);
    assert_eq!(only.poll(), yields(1));
}

#[test]
fn a_stream_that_outgrows_its_buffer_is_committed_to_who_has_read_furthest() {
    let (script, replay) = stream(2 * (100 + Record::<Scripted>::REFERENCE));
    let (first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    for byte in 1..=3 {
        send(&script, data(byte));
    }
    assert_eq!(first.poll(), yields(1));
    assert_eq!(second.poll(), yields(1));
    assert_eq!(second.poll(), yields(2));
    assert!(replay.is_replayable(), "just full");
    assert_eq!(second.poll(), yields(3));
    assert!(!replay.is_replayable());
    assert_eq!(first.poll(), Poll::Ready(Next::Stopped));
    assert!(!replay.commit(1), "what is lost cannot be sent again");
}

#[test]
fn a_stream_is_not_committed_to_an_attempt_that_is_over_though_its_task_has_not_seen_it() {
    let (script, replay) = stream(100 + Record::<Scripted>::REFERENCE);
    let (mut first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    send(&script, data(1));
    assert_eq!(first.poll(), yields(1));
    first.held = Arc::default();
    send(&script, data(2));
    assert_eq!(first.poll(), Poll::Pending);
    assert_eq!(replay.winner(), None);
    assert_eq!(second.poll(), yields(1));
    assert_eq!(second.poll(), yields(2));
    assert_eq!(replay.winner(), Some(2));
}

#[test]
fn a_beginning_that_is_too_large_already_is_committed_to_the_first_attempt() {
    let (script, body) = Scripted::new();
    let begun = [Some(Frame::data(data(1)))].into_iter();
    let replay = Arc::new(Replay::new(body, begun, 0, None).expect("nothing to refuse"));
    assert!(!replay.is_replayable());
    let only = Attempt::new(&replay, 7);
    assert_eq!(only.poll(), yields(1));
    send(&script, data(2));
    assert_eq!(only.poll(), yields(2));
    assert!(replay.commit(7));
}

#[test]
fn a_body_that_fails_ends_every_attempt_and_says_why() {
    let (script, replay) = stream(1_000);
    let (first, second) = (Attempt::new(&replay, 1), Attempt::new(&replay, 2));
    send(&script, data(1));
    assert_eq!(first.poll(), yields(1));
    assert_eq!(second.poll(), yields(1));
    assert_eq!(second.poll(), Poll::Pending);
    script
        .send(Err(io::Error::other("the disk is gone")))
        .expect("it is read");
    assert_eq!(first.poll(), Poll::Ready(Next::Stopped));
    assert!(second.is_woken());
    assert_eq!(second.poll(), Poll::Ready(Next::Stopped));
    assert!(!replay.is_replayable());
    let status = replay.failure().expect("it has failed");
    assert_eq!(status.code, Code::Internal);
    assert_eq!(
        status.message,
        "the request could not be produced: the disk is gone"
    );
}

/// What may happen to a call with three attempts.
#[derive(Debug, Clone)]
enum Step {
    Produce,
    Run(usize),
    Leave(usize),
    Commit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Produce),
        8 => (0usize..3).prop_map(Step::Run),
        1 => (0usize..3).prop_map(Step::Leave),
        1 => (0usize..3).prop_map(Step::Commit),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_attempt_that_stays_sends_all_in_order_and_none_sleeps_on(
        steps in prop::collection::vec(step(), 0..60),
        limit in 0usize..4_000,
    ) {
        let (script, replay) = stream(limit);
        let mut attempts: Vec<_> = (0..3)
            .map(|number| Some((Attempt::new(&replay, number), Vec::new())))
            .collect();
        // Runs an attempt for one step, and tells whether it may go on.
        let run = |attempt: &mut Option<(Attempt, Vec<Next>)>| match attempt {
            Some((attempt, seen)) => match attempt.poll() {
                Poll::Ready(next) => {
                    let more = matches!(next, Next::Data(_));
                    seen.push(next);
                    more
                }
                Poll::Pending => false,
            },
            None => false,
        };
        let ended = |attempt: &Option<(Attempt, Vec<Next>)>| {
            attempt.as_ref().is_none_or(|(_, seen)| {
                matches!(seen.last(), Some(Next::Stopped | Next::End(_)))
            })
        };
        let mut produced = Vec::new();
        for step in steps {
            match step {
                Step::Produce => {
                    let frame = data(u8::try_from(produced.len()).expect("few"));
                    produced.push(frame.clone());
                    // Nobody reads it any more when the one that was committed to has left.
                    let _ = script.send(Ok(Frame::data(frame)));
                }
                Step::Run(at) if !ended(&attempts[at]) => drop(run(&mut attempts[at])),
                Step::Leave(at) => attempts[at] = None,
                Step::Commit(at) => drop(replay.commit(u32::try_from(at).expect("few"))),
                Step::Run(_) => {}
            }
        }
        // Everybody runs until it sleeps, the stream ends, and then runs only who is woken.
        for attempt in &mut attempts {
            while !ended(attempt) && run(attempt) {}
        }
        drop(script);
        loop {
            let woken = attempts.iter_mut().find(|attempt| {
                !ended(attempt) && attempt.as_ref().is_some_and(|(a, _)| a.is_woken())
            });
            match woken {
                Some(woken) => while !ended(woken) && run(woken) {},
                None => break,
            }
        }
        let winner = replay.record().committed;
        for (number, attempt) in (0..).zip(attempts) {
            prop_assert!(ended(&attempt), "attempt {} sleeps on", number);
            let Some((_, mut seen)) = attempt else { continue };
            let last = seen.pop();
            let sent: Vec<_> = seen
                .into_iter()
                .map(|next| match next {
                    Next::Data(data) => data,
                    other => panic!("{other:?} is no data"),
                })
                .collect();
            if winner.is_some_and(|winner| winner != number) {
                prop_assert!(produced.starts_with(&sent));
            } else {
                prop_assert_eq!(last, Some(Next::End(None)));
                prop_assert_eq!(&sent, &produced);
            }
        }
    }
}
