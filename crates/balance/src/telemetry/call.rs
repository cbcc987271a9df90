//! A call as it is measured.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Labels, Recorder,
    attempt::{Attempt, MeasuredAttempt},
    ending::{Ended, Told},
    methods::Method,
};
use crate::{
    endpoint::Endpoint,
    policy::Why,
    status::Code,
    trace::{TracedAttempt, TracedCall},
};

/// A call under way, as it is measured and traced; it is told of when this is dropped. Of one that is neither nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct MeasuredCall(Option<Watched>);

#[derive(Debug)]
struct Watched {
    began: Instant,
    /// When it is over, where it has a deadline.
    until: Option<Instant>,
    told: Told,
    /// With the attempt that it was committed to.
    ended: Option<Ended>,
    measured: Option<Call>,
    traced: TracedCall,
}

#[derive(Debug)]
struct Call {
    method: Arc<Method>,
    labels: Labels,
    /// Of a call that had any. Most have not.
    further: OnceLock<Box<Further>>,
}

/// A call's attempts after its first.
#[derive(Debug, Default)]
struct Further {
    retries: AtomicU32,
    transparent_retries: AtomicU32,
    hedges: AtomicU32,
    /// In nanoseconds: for how long no attempt was under way although one had been.
    delayed: AtomicU64,
}

impl MeasuredCall {
    /// A call to `path` has begun, which is traced like that.
    #[inline]
    pub(super) fn begin(
        recorder: Option<&Recorder>,
        path: &str,
        traced: TracedCall,
        began: Instant,
    ) -> Self {
        if recorder.is_none() && matches!(traced, TracedCall::Not) {
            return Self(None);
        }
        Self(Some(Watched {
            began,
            until: None,
            told: Told::default(),
            ended: None,
            measured: recorder.map(|recorder| Call::begin(recorder, path)),
            traced,
        }))
    }

    /// When it is over, where it has a deadline. A call that is dropped untold was given up by its caller, or by this.
    pub(crate) fn until(&mut self, until: Option<Instant>) {
        if let Some(watched) = &mut self.0 {
            watched.until = until;
        }
    }

    /// One more attempt is to go to that endpoint, which was picked for that reason; its headers tell of the trace.
    pub(crate) fn trace(
        &self,
        endpoint: &Endpoint,
        why: Why,
        headers: &mut HeaderMap,
    ) -> TracedAttempt {
        self.0
            .as_ref()
            .map_or_else(TracedAttempt::default, |watched| {
                watched.traced.attempt(endpoint, why, headers)
            })
    }

    /// It was begun at `since`, and goes there now.
    #[inline]
    pub(crate) fn attempt(
        &self,
        endpoint: &Endpoint,
        since: Instant,
        traced: TracedAttempt,
    ) -> MeasuredAttempt {
        let Some(watched) = &self.0 else {
            return MeasuredAttempt::default();
        };
        let measured = watched.measured.as_ref();
        let measured = measured.map(|call| Attempt::begin(&call.method, call.labels, endpoint));
        MeasuredAttempt::begin(since, watched.until, measured, traced)
    }

    /// What its caller is told. Later words change nothing.
    pub(crate) fn ended(&self, code: Code) {
        if let Some(watched) = &self.0 {
            watched.told.tell(code);
        }
    }

    /// It is committed to that attempt: it ends as that has, if it has.
    pub(crate) fn ends_as(&mut self, attempt: &MeasuredAttempt) {
        if let Some(watched) = &mut self.0
            && watched.told.code().is_none()
            && watched.ended.is_none()
        {
            watched.ended = attempt.told(watched.began);
        }
    }

    /// The same call as it is traced.
    pub(crate) fn as_traced(&self) -> &TracedCall {
        self.0
            .as_ref()
            .map_or(&TracedCall::Not, |watched| &watched.traced)
    }

    /// The policy has it tried again, after `wait`.
    pub(crate) fn retried(&self, wait: Duration) {
        if let Some(further) = self.further() {
            further.retries.fetch_add(1, Ordering::Relaxed);
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            further.delayed.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// It is tried again because no application has seen it.
    pub(crate) fn retried_transparently(&self) {
        if let Some(further) = self.further() {
            further.transparent_retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more attempt is made beside those that are under way.
    pub(crate) fn hedged(&self) {
        if let Some(further) = self.further() {
            further.hedges.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn keeps_nothing(&self) -> bool {
        self.0.is_none()
    }

    fn further(&self) -> Option<&Further> {
        let call = self.0.as_ref()?.measured.as_ref()?;
        Some(call.further.get_or_init(Box::default))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ended = self.ended.unwrap_or_else(|| match self.told.code() {
            Some(code) => Ended::new(code, self.began, Instant::now()),
            None => Ended::untold(self.began, self.until),
        });
        if let Some(call) = &mut self.measured {
            call.ended(ended);
        }
        self.traced.end(ended.code);
    }
}

impl Call {
    fn begin(recorder: &Recorder, path: &str) -> Self {
        Self {
            method: Arc::clone(recorder.methods.of(path)),
            labels: recorder.labels,
            further: OnceLock::new(),
        }
    }

    fn ended(&mut self, Ended { code, took, .. }: Ended) {
        self.method.call_ended(code, took.as_secs_f64());
        if let Some(further) = self.further.take() {
            further.tell(&self.method);
        }
    }
}

impl Further {
    fn tell(self, method: &Method) {
        let instruments = method.instruments();
        for (histogram, count) in [
            (&instruments.retries, self.retries),
            (&instruments.transparent_retries, self.transparent_retries),
            (&instruments.hedges, self.hedges),
        ] {
            // A96: none are not reported.
            if let some @ 1.. = count.into_inner() {
                histogram.record(some.into(), method.named());
            }
        }
        if let nanos @ 1.. = self.delayed.into_inner() {
            let delay = Duration::from_nanos(nanos).as_secs_f64();
            instruments.retry_delay.record(delay, method.named());
        }
    }
}
