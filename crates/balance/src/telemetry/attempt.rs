//! An attempt of a call as it is measured.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use opentelemetry::KeyValue;
use tokio::time::Instant;

use super::{
    Labels,
    ending::Ended,
    messages::MessageBytes,
    methods::{Measured, Method},
};
use crate::{endpoint::Endpoint, status::Code, trace::TracedAttempt};

/// An attempt under way, as it is measured and traced; it is told of when this is dropped. Of one that is neither nothing is
/// kept.
#[derive(Debug, Default)]
pub(crate) struct MeasuredAttempt(Option<Watched>);

#[derive(Debug)]
struct Watched {
    /// Picking is a part of it (gRFC A66).
    began: Instant,
    /// When its call is over.
    until: Option<Instant>,
    ended: Option<Ended>,
    measured: Option<Attempt>,
    traced: TracedAttempt,
}

/// An attempt as it is measured.
#[derive(Debug)]
pub(super) struct Attempt {
    method: Arc<Method>,
    /// Where it is, if that is to be told.
    locality: Option<Box<KeyValue>>,
    /// What was sent at once.
    sent: MessageBytes,
    /// What was sent by and by, where it is.
    streamed: Option<Arc<AtomicU64>>,
    received: MessageBytes,
}

impl MeasuredAttempt {
    /// An attempt has begun, of a call that is over at `until`.
    #[inline]
    pub(super) fn begin(
        began: Instant,
        until: Option<Instant>,
        measured: Option<Attempt>,
        traced: TracedAttempt,
    ) -> Self {
        if measured.is_none() && !traced.is_traced() {
            return Self(None);
        }
        Self(Some(Watched {
            began,
            until,
            ended: None,
            measured,
            traced,
        }))
    }

    #[cfg(test)]
    pub(super) fn keeps_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// With which status it ends, and that it was now. Later words change nothing.
    pub(crate) fn ended(&mut self, code: Code, now: Instant) {
        if let Some(watched) = &mut self.0 {
            let began = watched.began;
            watched
                .ended
                .get_or_insert_with(|| Ended::new(code, began, now));
        }
    }

    /// How it has ended, where that was told, as the end of what began then.
    pub(super) fn told(&self, began: Instant) -> Option<Ended> {
        let watched = self.0.as_ref()?;
        let ended = watched.ended?;
        // Of nearly all calls and their attempts.
        if watched.began == began {
            return Some(ended);
        }
        Some(Ended::new(ended.code, began, ended.at))
    }

    /// Its whole request goes to the transport.
    pub(crate) fn sent(&mut self, data: &[u8]) {
        if let Some(attempt) = self.measured() {
            attempt.sent.follow(data);
        }
    }

    /// For whoever sends its request by and by.
    pub(crate) fn sending(&mut self) -> Sending {
        Sending(self.measured().map(|attempt| {
            let total = attempt.streamed.get_or_insert_default();
            (Arc::clone(total), MessageBytes::default())
        }))
    }

    /// Data of its response has come.
    pub(crate) fn received(&mut self, data: &[u8]) {
        if let Some(attempt) = self.measured() {
            attempt.received.follow(data);
        }
    }

    fn measured(&mut self) -> Option<&mut Attempt> {
        self.0.as_mut()?.measured.as_mut()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ended = self.ended;
        let ended = ended.unwrap_or_else(|| Ended::untold(self.began, self.until));
        if let Some(attempt) = &mut self.measured {
            attempt.ended(ended);
        }
        mem::take(&mut self.traced).end(ended.code);
    }
}

impl Attempt {
    /// An attempt begins at `endpoint`.
    pub(super) fn begin(method: &Arc<Method>, labels: Labels, endpoint: &Endpoint) -> Self {
        let locality = labels.locality(|| endpoint.zone());
        method.attempt_started();
        Self {
            method: Arc::clone(method),
            locality: locality.map(Box::new),
            sent: MessageBytes::default(),
            streamed: None,
            received: MessageBytes::default(),
        }
    }

    fn ended(&mut self, Ended { code, took, .. }: Ended) {
        let streamed = self.streamed.as_ref();
        let streamed = streamed.map_or(0, |total| total.load(Ordering::Relaxed));
        let measured = Measured {
            took: took.as_secs_f64(),
            sent: self.sent.total() + streamed,
            received: self.received.total(),
        };
        let locality = self.locality.take().map(|locality| *locality);
        self.method.attempt_ended(code, locality, &measured);
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
