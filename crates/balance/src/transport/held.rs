//! What a call's attempt holds from its start to its end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{RequestBody, Stream, Timeout, Upload, metadata};
use crate::{
    endpoint::Endpoint,
    load::InFlight,
    outlier::Ended,
    retry::Throttle,
    status::{Code, Status},
    telemetry::MeasuredAttempt,
};

/// An attempt's stream and its place among those in flight; both are given back, and the upload ends, when it is dropped.
pub(crate) struct Held {
    upload: Option<Upload>,
    in_flight: InFlight,
    measured: MeasuredAttempt,
    throttle: Option<Arc<Throttle>>,
    /// When the call is over, where its server was told so.
    timeout: Option<Timeout>,
    /// Whether it is known how the attempt ended.
    has_ended: bool,
    /// Last, so that the slot is free only when all else has ended.
    stream: Stream,
}

impl Held {
    #[inline]
    pub(crate) fn new(
        stream: Stream,
        endpoint: Arc<Endpoint>,
        now: Instant,
        timeout: Option<Timeout>,
        throttle: Option<Arc<Throttle>>,
        measured: MeasuredAttempt,
    ) -> Self {
        Self {
            upload: None,
            in_flight: InFlight::count(endpoint, now),
            measured,
            throttle,
            timeout,
            has_ended: false,
            stream,
        }
    }

    /// Sends the request on the stream that was opened, in the attempt of that number.
    pub(crate) fn send<B>(
        &mut self,
        body: &RequestBody<B>,
        stream: SendStream<Bytes>,
        attempt: u32,
    ) -> Result<(), h2::Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let place = || self.stream.share_slot();
        let upload = body.send(stream, attempt, &mut self.measured, place)?;
        self.upload = Some(upload);
        Ok(())
    }

    /// The request goes on no further: the call is not to be committed to this attempt.
    pub(crate) fn stop_upload(&mut self) {
        self.upload = None;
    }

    /// Why there is no whole request, where that is so.
    pub(super) fn upload_failure(&self) -> Option<Status> {
        self.upload.as_ref()?.failure()
    }

    /// Where the attempt is.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }

    /// The address of the other side.
    pub(crate) fn peer(&self) -> &str {
        self.stream.connection().peer()
    }

    /// Why the response is refused whose headers have `size` bytes, where they have too many.
    pub(crate) fn refuse_headers(&mut self, size: usize) -> Option<Status> {
        let limit = self.stream.connection().metadata_limit();
        let refused = metadata::refuse_headers(self.peer(), size, limit)?;
        Some(self.refuse(refused))
    }

    /// Why the response is refused that ends with these trailers, where they are too large.
    pub(super) fn refuse_trailers(&mut self, trailers: &HeaderMap) -> Option<Status> {
        let limit = self.stream.connection().metadata_limit();
        let refused = metadata::refuse_trailers(self.peer(), trailers, limit)?;
        Some(self.refuse(refused))
    }

    /// The limit is its caller's: it is not held against the endpoint.
    fn refuse(&mut self, refused: Status) -> Status {
        self.given_up(refused.code);
        refused
    }

    /// The server has sent a status, in these trailers or headers. What is given back is what its caller is told instead.
    ///
    /// Servers keep to the deadline as well: a failure that one tells after it is the deadline's, whosever word came first.
    pub(crate) fn answered(&mut self, code: Code, trailers: &HeaderMap) -> Option<Status> {
        self.stream.connection().answers();
        self.in_flight.reported(trailers);
        if code == Code::Ok {
            self.throttle.as_deref().inspect(|t| t.succeeded());
        }
        let overdue = self.overdue(code);
        self.ended(Ended::Answered {
            code: overdue.as_ref().map_or(code, |overdue| overdue.code),
            with_deadline: self.timeout.is_some(),
        });
        overdue
    }

    fn overdue(&self, code: Code) -> Option<Status> {
        if code == Code::Ok {
            return None;
        }
        let given = self.given().filter(|_| self.is_over())?;
        let (peer, name) = (self.peer(), code.name());
        let message =
            format!("{peer}: answered {name} after the {given:?} that the call was given");
        Some(Status::new(Code::DeadlineExceeded, message))
    }

    /// How long the call was given, where it has a deadline.
    pub(crate) fn given(&self) -> Option<Duration> {
        Some(self.timeout?.total())
    }

    fn is_over(&self) -> bool {
        self.timeout
            .is_some_and(|timeout| timeout.until() <= Instant::now())
    }

    /// Tells how the attempt ended. One that is dropped untold was given up by its caller or its deadline.
    pub(crate) fn ended(&mut self, how: Ended) {
        self.ended_with(how, how.code());
    }

    /// Its caller's side has ended it, which its caller is told by that code.
    pub(crate) fn given_up(&mut self, code: Code) {
        self.ended_with(Ended::ByCaller, Some(code));
    }

    fn ended_with(&mut self, how: Ended, code: Option<Code>) {
        // One look for all who ask when that was.
        let now = Instant::now();
        self.has_ended = true;
        self.in_flight.ended(how, now);
        if let Some(code) = code {
            self.measured.ended(code, now);
        }
    }

    /// For whoever measures what becomes of the attempt.
    pub(crate) fn measured(&mut self) -> &mut MeasuredAttempt {
        &mut self.measured
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.has_ended && self.is_over() {
            self.stream.connection().suspect(self.in_flight.began());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use http_body::Frame;
    use tokio::time::timeout;

    use super::{
        Arc, Body, Bytes, Code, Endpoint, HeaderMap, Held, Instant, MeasuredAttempt, RequestBody,
        Timeout,
    };
    use crate::{
        policy::tests::instance,
        transport::{
            REPLAY_BUFFER,
            rpc::peer::{BOUND, connected},
        },
    };

    /// A request that has no end.
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_slot_is_free_only_when_the_upload_on_it_has_ended() {
        let (connection, _task) = connected(async |_, _, _| {}).await;
        let now = Instant::now();
        let endpoint = Arc::new(Endpoint::new(Arc::new(instance(1))));
        let stream = connection.try_stream().expect("a free stream");
        let (response, send) = stream.open(http::Request::new(())).ok().expect("open");
        let measured = MeasuredAttempt::default();
        let mut held = Held::new(stream, endpoint, now, None, None, measured);
        let body = RequestBody::prepare(Endless, REPLAY_BUFFER, None).expect("it streams");
        held.send(&body, send, 1).expect("open");
        drop((response, held));
        assert_eq!(connection.streams(), 1, "its task has not seen the end");
        let next = timeout(BOUND, connection.stream()).await;
        assert!(next.expect("it ends").is_some());
    }

    #[tokio::test]
    async fn a_failure_that_a_server_tells_after_the_deadline_is_the_deadlines() {
        const GIVEN: Duration = Duration::from_millis(100);
        let (connection, _task) = connected(async |_, _, _| {}).await;
        let held_since = |began| {
            let endpoint = Arc::new(Endpoint::new(Arc::new(instance(1))));
            let timeout = Timeout::after(GIVEN, began);
            let stream = connection.try_stream().expect("a free stream");
            let measured = MeasuredAttempt::default();
            Held::new(stream, endpoint, began, timeout, None, measured)
        };
        let (now, none) = (Instant::now(), HeaderMap::new());
        let long_ago = now - GIVEN;
        for code in [Code::DeadlineExceeded, Code::Unavailable] {
            let overdue = held_since(long_ago).answered(code, &none).expect("late");
            assert_eq!(overdue.code, Code::DeadlineExceeded);
            let (peer, name) = (connection.peer(), code.name());
            let says = format!("{peer}: answered {name} after the 100ms that the call was given");
            assert_eq!(overdue.message, says);
        }
        assert_eq!(held_since(long_ago).answered(Code::Ok, &none), None);
        let soon = now + Duration::from_mins(1);
        assert_eq!(held_since(soon).answered(Code::Unavailable, &none), None);
    }
}
