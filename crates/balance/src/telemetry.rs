//! What a channel measures of its calls, by the names of gRFC A66, A91 and A96.
//!
//! Without a meter nothing is recorded, and a call pays a branch for each of its ends. With one, a method's instruments and
//! attributes are resolved at its first call with each status, and looked up after that.

mod instruments;
mod messages;
mod methods;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::time::Instant;

use crate::{outlier::Outlier, status::Code};
use instruments::Instruments;
use messages::MessageBytes;
use methods::{Method, Methods};

pub(crate) use methods::Named;

/// gRFC A66's name for what a channel goes to.
pub(crate) const TARGET: &str = "grpc.target";

/// Where a channel's measurements go; without a meter nowhere. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetry(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    instruments: Instruments,
    methods: Methods,
    target: KeyValue,
}

impl Telemetry {
    /// Measures what goes to `target`.
    pub(crate) fn new(meter: &Meter, target: &Arc<str>, named: Named) -> Self {
        Self(Some(Arc::new(Recorder {
            instruments: Instruments::new(meter),
            methods: Methods::new(target, named),
            target: KeyValue::new(TARGET, Arc::clone(target)),
        })))
    }

    /// A call to `path` begins.
    pub(crate) fn call(&self, path: &str) -> MeasuredCall {
        MeasuredCall(self.0.as_ref().map(|recorder| {
            Box::new(Call {
                method: recorder.methods.of(path),
                recorder: Arc::clone(recorder),
                started: Instant::now(),
                ending: Ending::new(None),
                retries: AtomicU32::new(0),
                transparent_retries: AtomicU32::new(0),
                hedges: AtomicU32::new(0),
                delayed: AtomicU64::new(0),
            })
        }))
    }

    /// The outlier detection has found an outlier, and has ejected it or not.
    pub(crate) fn found(&self, outlier: &Outlier) {
        let Some(recorder) = &self.0 else { return };
        let method = KeyValue::new(
            "grpc.lb.outlier_detection.detection_method",
            outlier.why.method(),
        );
        let target = recorder.target.clone();
        match outlier.spared {
            None => recorder.instruments.ejected.add(1, &[target, method]),
            Some(spared) => {
                let reason = KeyValue::new(
                    "grpc.lb.outlier_detection.unenforced_reason",
                    spared.reason(),
                );
                recorder
                    .instruments
                    .spared
                    .add(1, &[target, method, reason]);
            }
        }
    }
}

/// With what a call or an attempt has ended, by whoever is first to know.
#[derive(Debug)]
struct Ending {
    code: AtomicU8,
    until: Option<Instant>,
}

impl Ending {
    const UNTOLD: u8 = u8::MAX;

    fn new(until: Option<Instant>) -> Self {
        Self {
            code: AtomicU8::new(Self::UNTOLD),
            until,
        }
    }

    fn tell(&self, code: Code) {
        let untold = Self::UNTOLD;
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        // The first is what happened; what comes after follows from it.
        let _ = self
            .code
            .compare_exchange(untold, code.number(), success, failure);
    }

    fn told(&self) -> Option<Code> {
        let number = self.code.load(Ordering::Relaxed);
        (number != Self::UNTOLD).then(|| Code::from_number(number.into()))
    }

    fn code(&self, now: Instant) -> Code {
        self.told().unwrap_or_else(|| {
            if self.until.is_some_and(|until| until <= now) {
                Code::DeadlineExceeded
            } else {
                Code::Cancelled
            }
        })
    }
}

/// A call under way; it is recorded when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct MeasuredCall(Option<Box<Call>>);

#[derive(Debug)]
struct Call {
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
    /// When it is over, where it has a deadline. A call that is dropped untold was given up by its caller, or by this.
    pub(crate) fn until(&mut self, until: Option<Instant>) {
        if let Some(call) = &mut self.0 {
            call.ending.until = until;
        }
    }

    /// One more attempt begins.
    pub(crate) fn attempt(&self) -> MeasuredAttempt {
        MeasuredAttempt(self.0.as_ref().map(|call| {
            let (recorder, method) = (Arc::clone(&call.recorder), Arc::clone(&call.method));
            recorder.instruments.started.add(1, method.named());
            Box::new(Attempt {
                recorder,
                method,
                started: Instant::now(),
                ending: Ending::new(call.ending.until),
                call: MeasuredCall::default(),
                sent: Arc::default(),
                received: MessageBytes::default(),
            })
        }))
    }

    /// What its caller is told. Later words change nothing.
    pub(crate) fn ended(&self, code: Code) {
        if let Some(call) = &self.0 {
            call.ending.tell(code);
        }
    }

    /// The policy has it tried again, after `wait`.
    pub(crate) fn retried(&self, wait: Duration) {
        if let Some(call) = &self.0 {
            call.retries.fetch_add(1, Ordering::Relaxed);
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            call.delayed.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// It is tried again because no application has seen it.
    pub(crate) fn retried_transparently(&self) {
        if let Some(call) = &self.0 {
            call.transparent_retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more attempt is made beside those that are under way.
    pub(crate) fn hedged(&self) {
        if let Some(call) = &self.0 {
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

/// An attempt under way; it is recorded when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct MeasuredAttempt(Option<Box<Attempt>>);

#[derive(Debug)]
struct Attempt {
    recorder: Arc<Recorder>,
    method: Arc<Method>,
    started: Instant,
    ending: Ending,
    /// The call that is committed to it.
    call: MeasuredCall,
    sent: Arc<AtomicU64>,
    received: MessageBytes,
}

impl MeasuredAttempt {
    /// With which status it ends. Later words change nothing.
    pub(crate) fn ended(&self, code: Code) {
        if let Some(attempt) = &self.0 {
            attempt.ending.tell(code);
            attempt.call.ended(code);
        }
    }

    /// The call is committed to it, and ends with it.
    pub(crate) fn answers(&mut self, call: MeasuredCall) {
        if let Some(attempt) = &mut self.0 {
            if let Some(code) = attempt.ending.told() {
                call.ended(code);
            }
            attempt.call = call;
        }
    }

    /// For whoever sends its request.
    pub(crate) fn sending(&self) -> Sending {
        Sending(self.0.as_ref().map(|attempt| {
            let total = Arc::clone(&attempt.sent);
            (total, MessageBytes::default())
        }))
    }

    /// Data of its response has come.
    pub(crate) fn received(&mut self, data: &[u8]) {
        if let Some(attempt) = &mut self.0 {
            attempt.received.follow(data);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = Instant::now();
        let instruments = &self.recorder.instruments;
        let attributes = self.method.ended(self.ending.code(now));
        let took = now.duration_since(self.started).as_secs_f64();
        instruments.attempt.record(took, attributes);
        let sent = self.sent.load(Ordering::Relaxed);
        instruments.sent.record(sent, attributes);
        let received = self.received.total();
        instruments.received.record(received, attributes);
    }
}

/// Counts what is sent of one attempt's request.
#[derive(Debug, Default)]
pub(crate) struct Sending(Option<(Arc<AtomicU64>, MessageBytes)>);

impl Sending {
    /// Data of the request goes to the transport.
    pub(crate) fn sent(&mut self, data: &[u8]) {
        if let Some((total, messages)) = &mut self.0 {
            messages.follow(data);
            total.store(messages.total(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
