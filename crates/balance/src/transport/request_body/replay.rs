//! A request stream that can be sent again from its beginning, also by two attempts at a time (gRFC A6).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use registry::Cause;

use super::{failed, not_produced};
use crate::{
    status::Status,
    transport::{MessageLimit, message_limit::TooLarge},
};

/// A body, and what has been read of it.
///
/// The body is polled by whichever attempt has sent all that was read, on that attempt's own task.
pub(crate) struct Replay<B> {
    record: Mutex<Record<B>>,
    /// Apart from the record, so that a body may read its own call's response, which asks for this.
    failure: OnceLock<Status>,
}

/// Whether a request could be produced, whatever its type.
pub(super) trait Failing: Send + Sync {
    fn failure(&self) -> Option<Status>;
}

struct Record<B> {
    source: Source<B>,
    /// What has been read, and is still to be sent by some attempt.
    frames: VecDeque<Bytes>,
    /// How many frames came before those, and are gone.
    freed: usize,
    size: usize,
    limit: usize,
    messages: Option<MessageLimit>,
    committed: Option<u32>,
    /// All that there ever were.
    readers: Vec<Reading>,
}

enum Source<B> {
    More(B),
    End(Option<HeaderMap>),
    /// Nobody reads any more.
    Gone,
}

/// How far an attempt has come.
struct Reading {
    attempt: u32,
    /// How many frames it has read.
    at: usize,
    waker: Option<Waker>,
    /// Gone when the attempt is over, though its task may not have seen that yet. No lock is needed to give it up, so
    /// that a body may end its own call.
    held: Weak<()>,
}

/// What comes next of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Data(Bytes),
    /// The end, with trailers or without.
    End(Option<HeaderMap>),
    /// The request failed, or the call is committed to another attempt.
    Stopped,
}

/// One attempt's way through a request; dropping it lets the others go on.
pub(super) struct Reader<B> {
    replay: Arc<Replay<B>>,
    place: usize,
}

impl<B> Replay<B> {
    /// `begun` is what has been read of `body` already.
    pub(super) fn new(
        body: B,
        begun: impl Iterator<Item = Option<Frame<Bytes>>>,
        limit: usize,
        messages: Option<MessageLimit>,
    ) -> Result<Self, Status> {
        let mut record = Record {
            source: Source::More(body),
            frames: VecDeque::new(),
            freed: 0,
            size: 0,
            limit,
            messages,
            committed: None,
            readers: Vec::with_capacity(1),
        };
        for frame in begun {
            record.accept(frame)?;
        }
        Ok(Self {
            record: Mutex::new(record),
            failure: OnceLock::new(),
        })
    }

    /// Reads it from its beginning, for as long as the attempt is `held`.
    pub(super) fn read(this: &Arc<Self>, attempt: u32, held: &Arc<()>) -> Reader<B> {
        let mut record = this.record();
        record.readers.push(Reading {
            attempt,
            at: 0,
            waker: None,
            held: Arc::downgrade(held),
        });
        record.commit_if_full(attempt);
        Reader {
            replay: Arc::clone(this),
            place: record.readers.len() - 1,
        }
    }

    pub(super) fn is_replayable(&self) -> bool {
        let record = self.record();
        record.committed.is_none() && !record.is_full() && self.failure.get().is_none()
    }

    pub(super) fn commit(&self, attempt: u32) -> bool {
        self.record().commit(attempt)
    }

    /// Final for an attempt that is over: it cannot become the winner by reading on.
    pub(super) fn winner(&self) -> Option<u32> {
        self.record().committed
    }

    fn poll_stopped(&self, place: usize, cx: &Context<'_>) -> Poll<()> {
        let mut record = self.record();
        if self.is_stopped(&record, place) {
            return Poll::Ready(());
        }
        record.readers[place].wait(cx);
        Poll::Pending
    }

    fn is_stopped(&self, record: &Record<B>, place: usize) -> bool {
        let attempt = record.readers[place].attempt;
        let lost = record.committed.is_some_and(|winner| winner != attempt);
        lost || self.failure.get().is_some()
    }

    /// Ends every attempt, and has the caller told why.
    fn fail(&self, record: &mut Record<B>, status: Status) {
        // Only the first counts; there is no second, because the source is gone.
        let _ = self.failure.set(status);
        record.free_all();
        record.wake_all();
    }

    fn leave(&self, place: usize) {
        let mut record = self.record();
        let reading = &mut record.readers[place];
        reading.held = Weak::new();
        reading.waker = None;
        if record.committed == Some(record.readers[place].attempt) {
            record.free_all();
        }
        // The body may know this one's waker only: another has to ask it.
        record.wake_all();
    }

    fn record(&self) -> MutexGuard<'_, Record<B>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Cause>,
{
    fn poll_next(&self, place: usize, cx: &mut Context<'_>) -> Poll<Next> {
        let mut guard = self.record();
        let record = &mut *guard;
        loop {
            if record.readers[place].is_over() {
                // Its task is being aborted.
                return Poll::Pending;
            }
            if self.is_stopped(record, place) {
                return Poll::Ready(Next::Stopped);
            }
            if let Some(data) = record.recorded(place) {
                return Poll::Ready(Next::Data(data));
            }
            let polled = match &mut record.source {
                Source::More(body) => Pin::new(body).poll_frame(cx),
                Source::End(trailers) => return Poll::Ready(Next::End(trailers.clone())),
                Source::Gone => return Poll::Ready(Next::Stopped),
            };
            let Poll::Ready(frame) = polled else {
                record.readers[place].wait(cx);
                return Poll::Pending;
            };
            let accepted = frame
                .transpose()
                .map_err(failed)
                .and_then(|frame| record.accept(frame));
            match accepted {
                Ok(()) => {
                    record.wake_others(place);
                    let attempt = record.readers[place].attempt;
                    record.commit_if_full(attempt);
                }
                Err(status) => self.fail(record, status),
            }
        }
    }
}

impl<B: Send> Failing for Replay<B> {
    fn failure(&self) -> Option<Status> {
        self.failure.get().cloned()
    }
}

impl<B> Record<B> {
    /// What a frame counts for beyond its bytes: the reference to them that is kept.
    const REFERENCE: usize = size_of::<Bytes>();

    /// Takes what the body has yielded.
    fn accept(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), Status> {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                if let Some(limit) = &mut self.messages {
                    limit.follow(&data).map_err(TooLarge::in_request)?;
                }
                self.size = self.size.saturating_add(data.len() + Self::REFERENCE);
                self.frames.push_back(data);
            }
            Some(Err(frame)) => self.source = Source::End(frame.into_trailers().ok()),
            None if matches!(self.source, Source::More(_)) => self.source = Source::End(None),
            None => {}
        }
        Ok(())
    }

    /// The next frame for a reader, when it has been read from the body already.
    fn recorded(&mut self, place: usize) -> Option<Bytes> {
        let reading = &mut self.readers[place];
        let data = if self.committed.is_some() {
            // What was before is freed, so that this reader's next is the first.
            let data = self.frames.pop_front()?;
            self.freed += 1;
            data
        } else {
            self.frames.get(reading.at - self.freed)?.clone()
        };
        reading.at += 1;
        Some(data)
    }

    fn is_full(&self) -> bool {
        self.size > self.limit
    }

    /// A6: a call that outgrows its buffer is committed. Who reads the body is among those that have read furthest.
    fn commit_if_full(&mut self, attempt: u32) {
        if self.is_full() {
            self.commit(attempt);
        }
    }

    fn commit(&mut self, attempt: u32) -> bool {
        if let Some(winner) = self.committed {
            return winner == attempt;
        }
        self.committed = Some(attempt);
        let reading = self.readers.iter().rfind(|r| r.attempt == attempt);
        match reading.map(|reading| (reading.is_over(), reading.at)) {
            Some((true, _)) => self.free_all(),
            Some((false, at)) => {
                self.frames.drain(..at - self.freed);
                self.freed = at;
            }
            None => {}
        }
        self.wake_all();
        true
    }

    fn free_all(&mut self) {
        self.frames = VecDeque::new();
        self.source = Source::Gone;
    }

    /// Wakes whoever waits, to look again.
    fn wake_all(&mut self) {
        self.wake_others(usize::MAX);
    }

    fn wake_others(&mut self, place: usize) {
        for (other, reading) in self.readers.iter_mut().enumerate() {
            if other != place
                && let Some(waker) = reading.waker.take()
            {
                waker.wake();
            }
        }
    }
}

impl Reading {
    fn is_over(&self) -> bool {
        self.held.strong_count() == 0
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl<B> Reader<B> {
    /// Waits until there is nothing more to send for this attempt, whatever is left of the request.
    pub(super) fn poll_stopped(&self, cx: &Context<'_>) -> Poll<()> {
        self.replay.poll_stopped(self.place, cx)
    }

    /// Fails the request whose body has panicked.
    pub(super) fn panicked(&self) {
        let mut record = self.replay.record();
        self.replay
            .fail(&mut record, not_produced("its stream panicked"));
    }
}

impl<B> Reader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Cause>,
{
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        self.replay.poll_next(self.place, cx)
    }
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        self.replay.leave(self.place);
    }
}

#[cfg(test)]
mod tests;
