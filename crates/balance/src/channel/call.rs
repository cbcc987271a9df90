//! One call: what holds for it, its deadline, its response.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{Shared, attempt::Answer, head::Head};
use crate::{
    options::{Affinity, HashKey, WaitForReady},
    policy::CallInfo,
    retry::Throttle,
    service_config::MethodConfig,
    status::{Code, Status},
    telemetry::MeasuredCall,
    transport::{Deadline, MessageLimit, Messages, REPLAY_BUFFER, RequestBody, ResponseBody},
};

/// A call, apart from its body.
pub(super) struct Call {
    pub(super) head: Head,
    pub(super) method: Option<Arc<MethodConfig>>,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) wait_for_ready: bool,
    hash_key: Option<HashKey>,
    affinity: Option<Affinity>,
    pub(super) measured: MeasuredCall,
    /// When the call is over; told to each server as what is then left.
    pub(super) until: Option<Instant>,
    /// The endpoints of its attempts that have ended or are under way, by serial.
    tried: Mutex<Vec<u64>>,
    /// How often its request was sent.
    sent: AtomicU32,
    /// Whether the one transparent retry was made that a call gets which a server had seen and not processed.
    retried_transparently: AtomicBool,
    /// Whether it waits for an endpoint, and for nothing else.
    queued: AtomicBool,
}

impl Shared {
    /// Makes a call; whatever comes of it is told by the response's status.
    pub(super) async fn call<B>(&self, request: http::Request<B>) -> http::Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let (parts, body) = request.into_parts();
        let mut measured = self.telemetry.call(parts.uri.path());
        let options = &parts.extensions;
        let admitted = match self
            .admission
            .enter(options.get().copied().unwrap_or_default())
        {
            Ok(admitted) => admitted,
            Err(refused) => {
                measured.ended(refused.code);
                return refused.to_response();
            }
        };
        let in_force = self.in_force.load();
        let method = in_force.config.method(parts.uri.path()).cloned();
        let wait_for_ready = match options.get() {
            Some(WaitForReady(wanted)) => *wanted,
            None => method
                .as_ref()
                .and_then(|method| method.wait_for_ready)
                .unwrap_or(false),
        };
        let (hash_key, affinity) = (options.get().copied(), options.get().cloned());
        let repeats = method.as_ref().is_some_and(|method| method.repeats());
        let throttle = in_force.throttle.as_ref().filter(|_| repeats).cloned();
        drop(in_force);
        let head = Head::new(
            parts.uri,
            parts.headers,
            self.connect.scheme.clone(),
            &self.authority,
            &self.user_agent,
        );
        let configured = method.as_ref().and_then(|method| method.timeout);
        // The earlier of the two counts (grpc/grpc `doc/service_config.md`).
        let timeout = head.timeout().into_iter().chain(configured).min();
        let mut deadline = timeout.and_then(Deadline::after);
        measured.until(deadline.as_ref().map(Deadline::at));
        let call = Call {
            head,
            measured,
            method,
            throttle,
            wait_for_ready,
            hash_key,
            affinity,
            until: deadline.as_ref().map(Deadline::at),
            tried: Mutex::default(),
            sent: AtomicU32::new(0),
            retried_transparently: AtomicBool::new(false),
            queued: AtomicBool::new(false),
        };
        match Deadline::bound(deadline.as_mut(), self.answer(&call, body)).await {
            Ok(Ok(answer)) => {
                let limit = call.response_limit();
                answer.into_response(limit, deadline, admitted, call.measured)
            }
            Ok(Err(status)) => call.failed(&status),
            Err(_expired) => call.failed(&self.expired(&call, timeout.unwrap_or_default())),
        }
    }

    async fn answer<B>(&self, call: &Call, body: B) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let body = RequestBody::prepare(body, REPLAY_BUFFER, call.request_limit())?;
        match call.method.as_ref().and_then(|m| m.hedging.as_ref()) {
            Some(policy) => self.hedged(call, &body, policy).await,
            None => self.retried(call, &body).await,
        }
    }

    fn expired(&self, call: &Call, timeout: Duration) -> Status {
        let doing = if call.queued.load(Ordering::Relaxed) {
            let why = self.why_none(&call.info(&[]));
            format!("no instance of {} was ready: {why}", self.target)
        } else {
            "the response did not come".to_owned()
        };
        Status::new(
            Code::DeadlineExceeded,
            format!("{doing} within {timeout:?}"),
        )
    }
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
