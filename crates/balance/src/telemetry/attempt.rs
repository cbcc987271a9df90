//! An attempt of a call as it is measured.

use std::{
    borrow::Cow,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use opentelemetry::KeyValue;
use tokio::time::Instant;

use super::{
    Recorder, call::MeasuredCall, ending::Ending, messages::MessageBytes, methods::Method,
};
use crate::{endpoint::Endpoint, status::Code, trace::TracedAttempt};

/// An attempt under way, as it is measured and traced; it is recorded when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct MeasuredAttempt {
    pub(super) attempt: Option<Box<Attempt>>,
    traced: TracedAttempt,
}

#[derive(Debug)]
pub(super) struct Attempt {
    recorder: Arc<Recorder>,
    method: Arc<Method>,
    started: Instant,
    ending: Ending,
    /// Where it is, if that is to be told.
    locality: Option<KeyValue>,
    /// The call that is committed to it.
    call: MeasuredCall,
    sent: Arc<AtomicU64>,
    received: MessageBytes,
}

impl MeasuredAttempt {
    /// An attempt begins at `endpoint`, of a call that is over at `until`.
    pub(super) fn begin(
        recorder: &Arc<Recorder>,
        method: &Arc<Method>,
        until: Option<Instant>,
        endpoint: &Endpoint,
        since: Instant,
    ) -> Self {
        recorder.instruments.started.add(1, method.named());
        let attempt = Box::new(Attempt {
            recorder: Arc::clone(recorder),
            method: Arc::clone(method),
            started: since,
            ending: Ending::new(until),
            locality: recorder.labels.locality(|| endpoint.zone()),
            call: MeasuredCall::default(),
            sent: Arc::default(),
            received: MessageBytes::default(),
        });
        Self {
            attempt: Some(attempt),
            traced: TracedAttempt::default(),
        }
    }

    /// The same, traced like that.
    pub(crate) fn traced(self, traced: TracedAttempt) -> Self {
        Self { traced, ..self }
    }

    /// With which status it ends. Later words change nothing.
    pub(crate) fn ended(&self, code: Code) {
        if let Some(attempt) = &self.attempt {
            attempt.ending.tell(code);
            attempt.call.ended(code);
        }
        self.traced.ended(code);
    }

    /// The call is committed to it, and ends with it.
    pub(crate) fn answers(&mut self, mut call: MeasuredCall) {
        self.traced.answers(mem::take(&mut call.traced));
        if let Some(attempt) = &mut self.attempt {
            if let Some(code) = attempt.ending.told() {
                call.ended(code);
            }
            attempt.call = call;
        }
    }

    /// For whoever sends its request.
    pub(crate) fn sending(&self) -> Sending {
        Sending(self.attempt.as_ref().map(|attempt| {
            let total = Arc::clone(&attempt.sent);
            (total, MessageBytes::default())
        }))
    }

    /// Data of its response has come.
    pub(crate) fn received(&mut self, data: &[u8]) {
        if let Some(attempt) = &mut self.attempt {
            attempt.received.follow(data);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = Instant::now();
        let instruments = &self.recorder.instruments;
        let mut attributes = Cow::Borrowed(self.method.ended(self.ending.code(now)));
        if let Some(locality) = self.locality.take() {
            attributes.to_mut().push(locality);
        }
        let attributes = &*attributes;
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
pub(crate) struct Sending(pub(super) Option<(Arc<AtomicU64>, MessageBytes)>);

impl Sending {
    /// Data of the request goes to the transport.
    pub(crate) fn sent(&mut self, data: &[u8]) {
        if let Some((total, messages)) = &mut self.0 {
            messages.follow(data);
            total.store(messages.total(), Ordering::Relaxed);
        }
    }
}
