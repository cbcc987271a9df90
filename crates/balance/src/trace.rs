//! Traces: a call and its attempts as spans, and W3C's Trace Context, by which servers join in.
//!
//! Whether a call is traced is decided before anything is made for it. One that is not makes no span; it only tells its server
//! so, which would otherwise decide for itself and begin a trace in the middle.
//!
//! ```text
//! SERVER span of the process, or none          the parent: as the process says, or the request's own `traceparent`
//!   └─ CLIENT span of the call                 method, target, status
//!        ├─ INTERNAL span of its first attempt endpoint, why that was picked, status
//!        └─ INTERNAL span of its second        its id is what the server is told
//!             └─ SERVER span, of another process
//! ```

mod attempt;
mod call;
pub mod header;

use std::{fmt, sync::Arc};

use opentelemetry::{
    Context, Key, KeyValue,
    global::{BoxedSpan, BoxedTracer},
    trace::{
        Span, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId,
        TraceState, Tracer,
    },
};

pub(crate) use attempt::TracedAttempt;
pub(crate) use call::{CallTracing, TracedCall};

use crate::status::Code;

/// OpenTelemetry's name for which kind of RPC it is.
pub(crate) const SYSTEM: Key = Key::from_static_str("rpc.system.name");
pub(crate) const METHOD: Key = Key::from_static_str("rpc.method");
pub(crate) const STATUS: Key = Key::from_static_str("rpc.response.status_code");
pub(crate) const ERROR: Key = Key::from_static_str("error.type");
/// Of a call the channel's target, of an attempt its endpoint's host.
pub(crate) const SERVER: Key = Key::from_static_str("server.address");

/// Which calls are traced, where their spans go, and what they belong to. Cheap to clone.
///
/// It is what a channel ([`Builder::tracing`](crate::Builder::tracing)) and a server both go by.
///
/// By default it passes on what OpenTelemetry's context says that the task belongs to which makes a call, and makes no spans.
///
/// ```
/// use balance::trace::Tracing;
///
/// let channel = balance::Channel::builder("static:///10.0.0.1:1").tracing(&Tracing::default());
/// # drop(channel);
/// ```
#[derive(Clone, Default)]
pub struct Tracing {
    /// Who knows better than OpenTelemetry's context.
    current: Option<Arc<dyn Fn() -> SpanContext + Send + Sync>>,
    enter: Option<Arc<Enter>>,
    spans: Option<Arc<Spans>>,
}

/// Does something as a part of a span.
type Enter = dyn Fn(&SpanContext, &mut dyn FnMut()) + Send + Sync;

struct Spans {
    tracer: BoxedTracer,
    /// Of the calls that belong to nothing.
    share: f64,
}

/// What is decided of a call.
#[derive(Debug)]
pub enum Begun {
    /// It is traced, and this is its span.
    Span(BoxedSpan),
    /// It is not, at least not here; this is what others are told that it belongs to.
    Passed(SpanContext),
    /// Nobody has decided anything.
    Undecided,
}

impl Tracing {
    /// Passes on what calls belong to, and makes no spans. What that is `current` says in the place of OpenTelemetry's context, on
    /// the task that makes the call; an invalid context is none.
    pub fn within(current: impl Fn() -> SpanContext + Send + Sync + 'static) -> Self {
        Self {
            current: Some(Arc::new(current)),
            ..Self::default()
        }
    }

    /// Has what is logged of a call be told as a part of its span; where it has none, of what it belongs to. `enter` calls what it is
    /// given, once, and makes that current meanwhile for whoever writes the log.
    #[must_use]
    pub fn entered_by(
        self,
        enter: impl Fn(&SpanContext, &mut dyn FnMut()) + Send + Sync + 'static,
    ) -> Self {
        Self {
            enter: Some(Arc::new(enter)),
            ..self
        }
    }

    /// Makes spans by `tracer`, for what belongs to something that is sampled, and for this share (0 to 1) of what belongs to
    /// nothing. The tracer is asked for sampled calls only, so that its own sampler had better be one that takes all.
    #[must_use]
    pub fn with_spans<T>(self, tracer: T, share: f64) -> Self
    where
        T: Tracer<Span: Send + Sync + 'static> + Send + Sync + 'static,
    {
        let tracer = BoxedTracer::new(Box::new(tracer));
        Self {
            spans: Some(Arc::new(Spans { tracer, share })),
            ..self
        }
    }

    /// Decides whether what belongs to `parent` is traced; only then `span` is asked what its span is to be.
    #[inline]
    pub fn begin(&self, parent: SpanContext, span: impl FnOnce() -> SpanBuilder) -> Begun {
        let belongs = parent.is_valid();
        match self.spans.as_deref() {
            None if belongs => Begun::Passed(parent),
            None => Begun::Undecided,
            Some(spans) if belongs && parent.is_sampled() => {
                spans.begin(|| Context::new().with_remote_span_context(parent), span)
            }
            Some(_) if belongs => Begun::Passed(parent),
            Some(spans) if fastrand::f64() < spans.share => spans.begin(Context::new, span),
            Some(_) => Begun::Passed(unsampled()),
        }
    }

    /// Does that as a part of `span`.
    fn enter(&self, span: &SpanContext, act: &mut dyn FnMut()) {
        match &self.enter {
            Some(enter) => enter(span, act),
            None => act(),
        }
    }

    /// What a call belongs to that is made now.
    #[inline]
    fn current(&self) -> SpanContext {
        match &self.current {
            Some(current) => current(),
            None => Context::map_current(|now| now.span().span_context().clone()),
        }
    }
}

impl Spans {
    // One call in a hundred: what the others do is the shorter for it.
    #[cold]
    #[inline(never)]
    fn begin(&self, within: impl FnOnce() -> Context, span: impl FnOnce() -> SpanBuilder) -> Begun {
        let span = self.tracer.build_with_context(span(), &within());
        let context = span.span_context();
        if context.is_sampled() {
            Begun::Span(span)
        } else {
            // The tracer has a mind of its own, or has ended.
            Begun::Passed(context.clone())
        }
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.spans.as_ref().map(|spans| spans.share);
        f.debug_struct("Tracing")
            .field("share", &share)
            .finish_non_exhaustive()
    }
}

/// The context of a call that is not traced. Its ids are its own: for its log lines, and for whoever traces it nevertheless.
#[inline]
pub fn unsampled() -> SpanContext {
    SpanContext::new(
        TraceId::from(fastrand::u128(..)),
        SpanId::from(fastrand::u64(..)),
        TraceFlags::NOT_SAMPLED,
        false,
        TraceState::NONE,
    )
}

/// How many attributes tell how a span has ended.
const END: usize = 2;

/// Ends a client's span with that status: all that is not OK is an error to a caller.
fn end(span: &mut BoxedSpan, code: Code) {
    span.set_attribute(KeyValue::new(STATUS, code.name()));
    if code != Code::Ok {
        span.set_attribute(KeyValue::new(ERROR, code.name()));
        span.set_status(Status::error(""));
    }
    span.end();
}
