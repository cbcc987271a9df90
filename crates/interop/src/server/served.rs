//! What a server has been asked, and how much of it was taken back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http_body_util::BodyExt as _;
use tonic::body::Body;

/// What a [`TestService`](super::TestService) has served.
#[derive(Debug, Default)]
pub struct Served {
    calls: AtomicUsize,
    cancelled: AtomicUsize,
}

impl Served {
    /// Calls that have begun.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Calls whose callers went away before they were answered whole.
    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// A call. It was cancelled when its request breaks off, or when it is dropped before it was [`answered`](Self::answered):
/// a handler may be dropped, or read the request's error and answer to nobody.
#[derive(Debug)]
pub(super) struct Begun {
    served: Arc<Served>,
    answered: bool,
    broken: Arc<AtomicBool>,
}

impl Begun {
    pub(super) fn new(served: &Arc<Served>) -> Self {
        served.calls.fetch_add(1, Ordering::SeqCst);
        Self {
            served: Arc::clone(served),
            answered: false,
            broken: Arc::default(),
        }
    }

    /// The body of the call's request, watched for its breaking off.
    pub(super) fn request(&self, body: Body) -> Body {
        let broken = Arc::clone(&self.broken);
        Body::new(body.map_err(move |status| {
            broken.store(true, Ordering::SeqCst);
            status
        }))
    }

    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.answered || self.broken.load(Ordering::SeqCst) {
            self.served.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}
