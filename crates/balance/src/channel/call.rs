//! One call: what holds for it, its deadline, its response.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderValue, request};
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{Shared, admission::Admitted, attempt::Answer, head::Head};
use crate::{
    options::{Affinity, HashKey, WaitForReady},
    policy::CallInfo,
    retry::Throttle,
    service_config::MethodConfig,
    status::{Code, Status},
    telemetry::MeasuredCall,
    transport::{
        Deadline, MessageLimit, Messages, REPLAY_BUFFER, RequestBody, ResponseBody, Timeout,
    },
};

/// What a call is to do, apart from its body.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) head: Head,
    pub(super) method: Option<Arc<MethodConfig>>,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) wait_for_ready: bool,
    hash_key: Option<HashKey>,
    affinity: Option<Affinity>,
    /// When the call is over; told to each server as what is then left.
    pub(super) timeout: Option<Timeout>,
    /// The request's, which nobody reads any more: its memory is there for the response's.
    pub(super) extensions: Extensions,
}

/// What a call has done.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) measured: MeasuredCall,
    /// The endpoints of its attempts that have failed or are under way, by serial.
    tried: Mutex<Vec<u64>>,
    /// How often its request was sent.
    sent: AtomicU32,
    /// Whether the one transparent retry was made that a call gets which a server had seen and not processed.
    retried_transparently: AtomicBool,
    /// Whether it waits for an endpoint, and for nothing else.
    queued: AtomicBool,
}

impl Shared {
    /// Lets a call in, and looks up what holds for it; makes nothing of it yet.
    pub(super) fn begin(
        &self,
        parts: request::Parts,
        began: Instant,
    ) -> Result<(Call, Progress, Admitted), Status> {
        let request::Parts {
            uri,
            headers,
            mut extensions,
            ..
        } = parts;
        let priority = extensions.get().copied().unwrap_or_default();
        let mut measured = self.telemetry.call(uri.path());
        let admitted = self
            .admission
            .enter(priority)
            .inspect_err(|refused| measured.ended(refused.code))?;
        let in_force = self.in_force.load();
        let method = in_force.config.method(uri.path()).cloned();
        let repeats = method.as_ref().is_some_and(|method| method.repeats());
        let throttle = in_force.throttle.as_ref().filter(|_| repeats).cloned();
        drop(in_force);
        let wait_for_ready = match extensions.get() {
            Some(WaitForReady(wanted)) => *wanted,
            None => method
                .as_ref()
                .and_then(|method| method.wait_for_ready)
                .unwrap_or(false),
        };
        let (hash_key, affinity) = (extensions.get().copied(), extensions.remove());
        extensions.clear();
        let (head, asked) = Head::new(
            uri,
            headers,
            &self.connect.scheme,
            &self.authority,
            &self.user_agent,
        );
        let call = Call {
            timeout: timeout(asked, method.as_deref(), began),
            head,
            method,
            throttle,
            wait_for_ready,
            hash_key,
            affinity,
            extensions,
        };
        measured.until(call.timeout.as_ref().map(Timeout::until));
        let progress = Progress {
            measured,
            ..Progress::default()
        };
        Ok((call, progress, admitted))
    }

    /// Makes a call; whatever comes of it is told by the response's status.
    pub(super) async fn run<B>(
        &self,
        (mut call, progress, admitted): (Call, Progress, Admitted),
        body: B,
    ) -> http::Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let mut deadline = call
            .timeout
            .as_ref()
            .map(|timeout| Deadline::new(timeout, &self.timers));
        let messages = call.response_limit();
        let answer = self.answer(&mut call, &progress, body);
        match Deadline::bound(deadline.as_mut(), answer).await {
            Ok(Ok(answer)) => answer.into_response(messages, deadline, admitted, progress.measured),
            Ok(Err(status)) => progress.failed(&status),
            Err(_expired) => progress.failed(&self.expired(&call, &progress)),
        }
    }

    async fn answer<B>(
        &self,
        call: &mut Call,
        progress: &Progress,
        body: B,
    ) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let body = RequestBody::prepare(body, REPLAY_BUFFER, call.request_limit())?;
        if call.is_hedged() {
            // Boxed, because few calls are hedged, and every call would have to have room for it.
            return Box::pin(self.hedged(call, progress, &body)).await;
        }
        self.retried(call, progress, &body).await
    }

    fn expired(&self, call: &Call, progress: &Progress) -> Status {
        let doing = if progress.queued.load(Ordering::Relaxed) {
            let why = self.why_none(&call.info(&[]));
            format!("no instance of {} was ready: {why}", self.target)
        } else {
            "the response did not come".to_owned()
        };
        let total = call
            .timeout
            .as_ref()
            .map(Timeout::total)
            .unwrap_or_default();
        Status::new(Code::DeadlineExceeded, format!("{doing} within {total:?}"))
    }
}

/// The earlier counts of what the caller asked for and what the config says (grpc/grpc `doc/service_config.md`).
fn timeout(
    asked: Option<(Duration, HeaderValue)>,
    method: Option<&MethodConfig>,
    began: Instant,
) -> Option<Timeout> {
    let configured = method.and_then(|method| method.timeout);
    let (total, said) = match (asked, configured) {
        (Some((asked, said)), configured) if configured.is_none_or(|c| asked <= c) => {
            (asked, Some(said))
        }
        (_, Some(configured)) => (configured, method.and_then(|m| m.timeout_value.clone())),
        (_, None) => return None,
    };
    let timeout = Timeout::after(total, began)?;
    Some(match said {
        Some(said) => timeout.said_as(said),
        None => timeout,
    })
}

impl Call {
    /// What a picker may know of the call, which has been at the endpoints `tried`.
    pub(super) fn info<'c>(&'c self, tried: &'c [u64]) -> CallInfo<'c> {
        CallInfo {
            path: self.head.path(),
            headers: self.head.headers(),
            hash_key: self.hash_key,
            affinity: self.affinity.as_ref(),
            tried,
            repeated: false,
            warming: None,
        }
    }

    /// Whether its attempts run beside one another.
    pub(super) fn is_hedged(&self) -> bool {
        self.method.as_ref().is_some_and(|m| m.hedging.is_some())
    }

    fn request_limit(&self) -> Option<MessageLimit> {
        let limit = self.method.as_ref()?.max_request_message_bytes?;
        Some(MessageLimit::new(limit))
    }

    fn response_limit(&self) -> Messages {
        let method = self.method.as_ref();
        match method.and_then(|method| method.max_response_message_bytes) {
            Some(limit) => Messages::Limited(MessageLimit::new(limit)),
            None => Messages::OfAnySize,
        }
    }
}

impl Progress {
    /// The endpoints that it has been at.
    pub(super) fn tried(&self) -> Vec<u64> {
        self.been_at().clone()
    }

    /// An attempt goes to that endpoint.
    pub(super) fn goes_to(&self, endpoint: u64) {
        self.been_at().push(endpoint);
    }

    /// The response when there is none.
    fn failed(&self, status: &Status) -> http::Response<ResponseBody> {
        self.measured.ended(status.code);
        status.to_response()
    }

    /// A number for each time that the request is sent, from 1.
    pub(super) fn next_sending(&self) -> u32 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether what a server refused before any application saw it may be sent again at once: the first time.
    pub(super) fn transparently(&self) -> bool {
        !self.retried_transparently.swap(true, Ordering::Relaxed)
    }

    /// Whether an attempt waits for an endpoint now, for the message when it waits for too long.
    pub(super) fn is_queued(&self, queued: bool) {
        self.queued.store(queued, Ordering::Relaxed);
    }

    fn been_at(&self) -> MutexGuard<'_, Vec<u64>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
