//! A call as it is measured.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Recorder, attempt::MeasuredAttempt, ending::Ending, instruments::Instruments, methods::Method,
};
use crate::{
    endpoint::Endpoint,
    policy::Why,
    status::Code,
    trace::{TracedAttempt, TracedCall},
};

/// A call under way, as it is measured and traced; it is recorded when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct MeasuredCall {
    pub(super) call: Option<Box<Call>>,
    pub(super) traced: TracedCall,
}

#[derive(Debug)]
pub(super) struct Call {
    recorder: Arc<Recorder>,
    method: Arc<Method>,
    started: Instant,
    ending: Ending,
    retries: AtomicU32,
    transparent_retries: AtomicU32,
    hedges: AtomicU32,
    /// In nanoseconds: for how long no attempt was under way although one had been.
    delayed: AtomicU64,
}

impl MeasuredCall {
    /// A call to `path` begins.
    pub(super) fn begin(recorder: &Arc<Recorder>, path: &str) -> Self {
        let call = Box::new(Call {
            method: recorder.methods.of(path),
            recorder: Arc::clone(recorder),
            started: Instant::now(),
            ending: Ending::new(None),
            retries: AtomicU32::new(0),
            transparent_retries: AtomicU32::new(0),
            hedges: AtomicU32::new(0),
            delayed: AtomicU64::new(0),
        });
        Self {
            call: Some(call),
            traced: TracedCall::default(),
        }
    }

    /// The same, traced like that.
    pub(crate) fn traced(self, traced: TracedCall) -> Self {
        Self { traced, ..self }
    }

    /// When it is over, where it has a deadline. A call that is dropped untold was given up by its caller, or by this.
    pub(crate) fn until(&mut self, until: Option<Instant>) {
        if let Some(call) = &mut self.call {
            call.ending.until = until;
        }
        self.traced.until(until);
    }

    /// One more attempt is to go to that endpoint, which was picked for that reason; its headers tell of the trace.
    pub(crate) fn trace(
        &self,
        endpoint: &Endpoint,
        why: Why,
        headers: &mut HeaderMap,
    ) -> TracedAttempt {
        self.traced.attempt(endpoint, why, headers)
    }

    /// It was begun at `since`, and goes there now.
    pub(crate) fn attempt(&self, endpoint: &Endpoint, since: Instant) -> MeasuredAttempt {
        let Some(call) = &self.call else {
            return MeasuredAttempt::default();
        };
        let (method, until) = (&call.method, call.ending.until);
        MeasuredAttempt::begin(&call.recorder, method, until, endpoint, since)
    }

    /// What its caller is told. Later words change nothing.
    pub(crate) fn ended(&self, code: Code) {
        if let Some(call) = &self.call {
            call.ending.tell(code);
        }
        self.traced.ended(code);
    }

    /// The same call as it is traced.
    pub(crate) fn as_traced(&self) -> &TracedCall {
        &self.traced
    }

    /// The policy has it tried again, after `wait`.
    pub(crate) fn retried(&self, wait: Duration) {
        if let Some(call) = &self.call {
            call.retries.fetch_add(1, Ordering::Relaxed);
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            call.delayed.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// It is tried again because no application has seen it.
    pub(crate) fn retried_transparently(&self) {
        if let Some(call) = &self.call {
            call.transparent_retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more attempt is made beside those that are under way.
    pub(crate) fn hedged(&self) {
        if let Some(call) = &self.call {
            call.hedges.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = Instant::now();
        let Instruments {
            call,
            retries,
            transparent_retries,
            hedges,
            retry_delay,
            ..
        } = &self.recorder.instruments;
        let took = now.duration_since(self.started).as_secs_f64();
        call.record(took, self.method.ended(self.ending.code(now)));
        for (histogram, count) in [
            (retries, &mut self.retries),
            (transparent_retries, &mut self.transparent_retries),
            (hedges, &mut self.hedges),
        ] {
            // A96: none are not reported.
            if let some @ 1.. = *count.get_mut() {
                histogram.record(some.into(), self.method.named());
            }
        }
        if let nanos @ 1.. = *self.delayed.get_mut() {
            let delay = Duration::from_nanos(nanos).as_secs_f64();
            retry_delay.record(delay, self.method.named());
        }
    }
}
