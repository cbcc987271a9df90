//! One call: what holds for it, its deadline, its response.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue};
use http_body::Body;
use opentelemetry::trace::SpanContext;
use registry::Cause;
use tokio::time::Instant;

use super::{
    InForce, Inner, Shared, admission::Admitted, attempt::First, exchange::Exchange, head::Head,
};
use crate::{
    options::{CallOptions, ServedBy},
    policy::CallInfo,
    retry::{PREVIOUS_ATTEMPTS, Throttle},
    service_config::MethodConfig,
    status::{Code, Status},
    telemetry::MeasuredCall,
    trace::TracedCall,
    transport::{
        Deadline, GRPC_TIMEOUT, Held, MessageLimit, Messages, REPLAY_BUFFER, RequestBody,
        ResponseBody, Timeout,
    },
};

/// What a call is to do, apart from its body.
pub(super) struct Call {
    pub(super) head: Head,
    pub(super) method: Option<Arc<MethodConfig>>,
    pub(super) throttle: Option<Arc<Throttle>>,
    options: CallOptions,
    /// When the call is over; told to each server as what is then left.
    pub(super) timeout: Option<Timeout>,
}

/// A call that is not committed to an answer yet: all that its attempts need.
pub(super) struct Pending<B> {
    /// Kept, because a caller may drop its own while calls wait for an endpoint.
    pub(super) channel: Arc<Inner>,
    pub(super) call: Call,
    pub(super) body: RequestBody<B>,
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
    /// The serial of the endpoint whose response it waits for, or [`AN_ENDPOINT`]; 0 when neither is known.
    waits_for: AtomicU64,
    /// How many attempts have begun to be answered, by answers that are kept back.
    answering: AtomicU32,
}

/// An attempt that is being answered, as long as this is there.
pub(super) struct Answering<'p>(&'p AtomicU32);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call waits for any endpoint that it could be sent to.
const AN_ENDPOINT: u64 = u64::MAX;

impl<B> Pending<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    /// Lets a call in and looks up what holds for it; nothing of it leaves yet. The request becomes the first attempt's. What
    /// is given instead is the response when there is no more to the call.
    #[inline]
    pub(super) fn begin(
        channel: &Arc<Inner>,
        in_force: &InForce,
        request: &mut http::Request<()>,
        body: B,
        began: Instant,
        progress: &mut Progress,
    ) -> Result<(Self, Admitted), Box<http::Response<ResponseBody>>> {
        let shared = &channel.shared;
        // Nobody else reads them.
        let options = CallOptions::of(&mem::take(request.extensions_mut()));
        let (head, asked) = Head::of(request, &shared.head, shared.tracing.is_some());
        let traced = shared.trace(head.path(), asked.parent);
        progress.measured = shared.telemetry.call(head.path(), traced, began);
        let admitted = shared.admission.enter(options.priority);
        let admitted = admitted.map_err(|refused| Box::new(progress.failed(&refused)))?;
        let (method, throttle) = in_force.rules(head.path());
        let call = Call {
            timeout: timeout(asked.timeout, method.as_deref(), began, request),
            head,
            method,
            throttle,
            options,
        };
        progress
            .measured
            .until(call.timeout.as_ref().map(Timeout::until));
        let body = RequestBody::prepare(body, REPLAY_BUFFER, call.request_limit())
            .map_err(|status| Box::new(progress.failed(&status)))?;
        let pending = Self {
            channel: Arc::clone(channel),
            call,
            body,
        };
        Ok((pending, admitted))
    }

    /// Makes the call, whose first attempt begins like that; whatever comes of it is told by the response's status. It is let go
    /// (`admitted` is dropped) after it was measured.
    pub(super) async fn run(
        self,
        admitted: Admitted,
        progress: Progress,
        mut deadline: Option<Deadline>,
        first: First,
    ) -> http::Response<ResponseBody> {
        let Self {
            channel,
            call,
            body,
        } = &self;
        let shared = &channel.shared;
        let answer = async {
            if call.is_hedged() {
                shared.hedged(call, &progress, body).await
            } else {
                shared.retried(call, &progress, body, first).await
            }
        };
        let status = match Deadline::bound(deadline.as_mut(), answer).await {
            Ok(Ok(answer)) => {
                return Exchange::answered(answer, &self, progress, admitted, deadline);
            }
            Ok(Err(status)) => status,
            Err(_expired) => shared.expired(call, &progress),
        };
        shared.log(&progress, || {
            let status = status.code.name();
            tracing::debug!(method = call.head.path(), status, "the call has failed");
        });
        progress.failed(&status)
    }

    /// The call is committed to the attempt that holds `held`.
    pub(super) fn commit(
        &self,
        progress: &mut Progress,
        held: &mut Held,
        extensions: &mut Extensions,
    ) {
        progress.measured.ends_as(held.measured());
        if self.call.options.tells_served_by {
            extensions.insert(ServedBy(held.endpoint().instance()));
        }
    }

    /// Whether the call is committed to an answer only once that is whole.
    pub(super) fn waits_for_whole(&self) -> bool {
        self.channel.shared.commits_late(&self.call)
    }

    /// The deadline of the whole call.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        let timeout = self.call.timeout.as_ref()?;
        Some(Deadline::new(timeout, &self.channel.shared.timers))
    }
}

impl Shared {
    /// How a call to `path` is traced, whose request says that it belongs to `parent`.
    #[inline]
    fn trace(&self, path: &str, parent: SpanContext) -> TracedCall {
        let policy = || self.published.load().policy.clone();
        let tracing = self.tracing.as_ref();
        tracing.map_or_else(TracedCall::default, |tracing| {
            tracing.begin(path, parent, policy)
        })
    }

    /// Logs something of a call, which tells of its trace.
    pub(super) fn log(&self, progress: &Progress, mut log: impl FnMut()) {
        match &self.tracing {
            Some(tracing) => tracing.log(progress.measured.as_traced(), log),
            None => log(),
        }
    }

    /// Whether that call is committed to an answer only once it is whole: where its method has no other answers, and it can be made
    /// again.
    pub(super) fn commits_late(&self, call: &Call) -> bool {
        call.is_repeated() && self.single_answers.has(call.head.path())
    }

    fn expired(&self, call: &Call, progress: &Progress) -> Status {
        let doing = match progress.waits_for.load(Ordering::Relaxed) {
            AN_ENDPOINT => {
                let request = call.head.again(&self.head);
                let why = self.why_none(&call.info(request.headers(), &[]));
                format!("no instance of {} was ready: {why}", self.target)
            }
            serial => {
                let published = self.published.load();
                let endpoint = published.endpoints.iter().find(|e| e.serial() == serial);
                let named = endpoint.map(|e| format!("{}: ", e.instance().address()));
                format!("{}the response did not come", named.unwrap_or_default())
            }
        };
        let total = call.total();
        Status::new(Code::DeadlineExceeded, format!("{doing} within {total:?}"))
    }
}

/// The earlier counts of what the caller asked for and what the config says (grpc/grpc `doc/service_config.md`). The request
/// says so: all of it, so that those with the same time to go say the same, of which HPACK has a byte to send.
#[inline]
fn timeout(
    asked: Option<Duration>,
    method: Option<&MethodConfig>,
    began: Instant,
    request: &mut http::Request<()>,
) -> Option<Timeout> {
    let method = method.and_then(|method| Some((method.timeout?, method.timeout_value.as_ref()?)));
    if let Some(asked) = asked
        && method.is_none_or(|(configured, _)| asked <= configured)
    {
        return Timeout::after(asked, began);
    }
    let (configured, value) = method?;
    let timeout = Timeout::after(configured, began)?;
    request.headers_mut().insert(GRPC_TIMEOUT, value.clone());
    Some(timeout)
}

impl Call {
    /// What a picker may know of the call, which sends these headers, and has been at the endpoints `tried`.
    pub(super) fn info<'c>(&'c self, headers: &'c HeaderMap, tried: &'c [u64]) -> CallInfo<'c> {
        CallInfo {
            path: self.head.path(),
            headers,
            hash_key: self.options.hash_key,
            affinity: self.options.affinity.as_ref(),
            tried,
            repeated: false,
            warming: None,
        }
    }

    /// Whether it waits for an endpoint that is ready, whatever has become of the others.
    pub(super) fn waits_for_ready(&self) -> bool {
        let configured = || {
            self.method
                .as_ref()
                .and_then(|method| method.wait_for_ready)
        };
        let asked = self.options.wait_for_ready;
        asked.or_else(configured).unwrap_or(false)
    }

    /// Tells the server of a `request` that leaves `now`, later than the call began, how long the call may still take, and how
    /// many attempts were before it.
    pub(super) fn tell(&self, request: &mut http::Request<()>, now: Instant, previous: u32) {
        let headers = request.headers_mut();
        if let Some(timeout) = &self.timeout {
            headers.insert(GRPC_TIMEOUT, timeout.left(now));
        }
        if previous > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
    }

    /// How long it was given; nothing when it has no deadline.
    pub(super) fn total(&self) -> Duration {
        self.timeout
            .as_ref()
            .map(Timeout::total)
            .unwrap_or_default()
    }

    /// Whether there may be further attempts.
    pub(super) fn is_repeated(&self) -> bool {
        self.method.as_ref().is_some_and(|m| m.repeats())
    }

    /// Whether its attempts run beside one another.
    pub(super) fn is_hedged(&self) -> bool {
        self.method.as_ref().is_some_and(|m| m.hedging.is_some())
    }

    fn request_limit(&self) -> Option<MessageLimit> {
        let limit = self.method.as_ref()?.max_request_message_bytes?;
        Some(MessageLimit::new(limit))
    }

    /// What the messages of a response may be.
    pub(super) fn response_limit(&self) -> Messages {
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
    pub(super) fn failed(&self, status: &Status) -> http::Response<ResponseBody> {
        self.measured.ended(status.code);
        status.to_response()
    }

    /// How often its request was sent.
    pub(super) fn sendings(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// A number for each time that the request is sent, from 1.
    pub(super) fn next_sending(&self) -> u32 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether what a server refused before any application saw it may be sent again at once: the first time.
    pub(super) fn transparently(&self) -> bool {
        !self.retried_transparently.swap(true, Ordering::Relaxed)
    }

    /// An attempt waits for an endpoint now, for the message when it waits for too long.
    pub(super) fn waits_for_an_endpoint(&self) {
        self.waits_for.store(AN_ENDPOINT, Ordering::Relaxed);
    }

    /// An attempt waits for the response of that endpoint now.
    pub(super) fn waits_for(&self, endpoint: u64) {
        self.waits_for.store(endpoint, Ordering::Relaxed);
    }

    /// An attempt is being answered from now on, and the call not committed to it.
    pub(super) fn answering(&self) -> Answering<'_> {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(&self.answering)
    }

    /// Whether an attempt is being answered, so that the call waits for the end of that.
    pub(super) fn is_answered(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0
    }

    fn been_at(&self) -> MutexGuard<'_, Vec<u64>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
