//! A call as it is traced.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{Begun, END, METHOD, SERVER, SYSTEM, TracedAttempt, Tracing, end, header};
use crate::{endpoint::Endpoint, policy::Why, status::Code};
use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    global::BoxedSpan,
    trace::{Span, SpanBuilder, SpanContext, SpanKind},
};
use registry::Instance;

/// A call under way as it is traced, and what its attempts tell their servers.
#[derive(Debug, Default)]
pub(crate) enum TracedCall {
    /// The channel knows nothing of traces, or the call belongs to none.
    #[default]
    Not,
    /// It makes no span, and passes this on.
    Passed(SpanContext),
    Traced(Box<Call>),
}

/// How the calls of one channel are traced.
#[derive(Debug)]
pub(crate) struct CallTracing {
    tracing: Tracing,
    target: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Call {
    tracing: Tracing,
    span: BoxedSpan,
    method: Arc<str>,
    policy: Cow<'static, str>,
    attempts: AtomicI64,
}

impl CallTracing {
    /// Of a channel to `target`.
    pub(crate) fn new(tracing: Tracing, target: Arc<str>) -> Self {
        Self { tracing, target }
    }

    /// A call to `path` begins, whose request `said` what it belongs to. The policy's name is asked for of a call that is traced.
    #[inline]
    pub(crate) fn begin(
        &self,
        path: &str,
        said: SpanContext,
        policy: impl FnOnce() -> Cow<'static, str>,
    ) -> TracedCall {
        let current = self.tracing.current();
        let parent = if current.is_valid() { current } else { said };
        let mut method = None;
        let begun = self.tracing.begin(parent, || {
            let path = path.strip_prefix('/').unwrap_or(path);
            let method: &Arc<str> = method.insert(path.into());
            let mut attributes = Vec::with_capacity(3 + END);
            attributes.extend([
                KeyValue::new(SYSTEM, "grpc"),
                KeyValue::new(METHOD, Arc::clone(method)),
                KeyValue::new(SERVER, Arc::clone(&self.target)),
            ]);
            SpanBuilder::from_name(path.to_owned())
                .with_kind(SpanKind::Client)
                .with_attributes(attributes)
        });
        match begun {
            Begun::Span(span) => TracedCall::Traced(Box::new(Call {
                tracing: self.tracing.clone(),
                span,
                method: method.unwrap_or_default(),
                policy: policy(),
                attempts: AtomicI64::new(0),
            })),
            Begun::Passed(context) => TracedCall::Passed(context),
            Begun::Undecided => TracedCall::Not,
        }
    }
}

impl CallTracing {
    /// Logs something of a call, as a part of it.
    pub(crate) fn log(&self, call: &TracedCall, mut log: impl FnMut()) {
        match call.context() {
            Some(context) => self.tracing.enter(context, &mut log),
            None => log(),
        }
    }
}

impl TracedCall {
    /// One more attempt goes to that endpoint, which was picked for that reason, and its headers say what it is.
    pub(crate) fn attempt(
        &self,
        endpoint: &Endpoint,
        why: Why,
        headers: &mut HeaderMap,
    ) -> TracedAttempt {
        match self {
            Self::Not => TracedAttempt::default(),
            Self::Passed(context) => {
                header::write(context, headers);
                TracedAttempt::default()
            }
            Self::Traced(call) => call.attempt(endpoint, why, headers),
        }
    }

    /// What it belongs to, or is.
    fn context(&self) -> Option<&SpanContext> {
        match self {
            Self::Not => None,
            Self::Passed(context) => Some(context),
            Self::Traced(call) => Some(call.span.span_context()),
        }
    }

    /// It has ended with that status.
    pub(crate) fn end(&mut self, code: Code) {
        if let Self::Traced(call) = self {
            end(&mut call.span, code);
        }
    }
}

impl Call {
    fn attempt(&self, endpoint: &Endpoint, why: Why, headers: &mut HeaderMap) -> TracedAttempt {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let parent = self.span.span_context().clone();
        let begun = self.tracing.begin(parent, || {
            let reason = match why {
                Why::Policy => self.policy.clone(),
                why => Cow::Borrowed(why.name()),
            };
            let named = endpoint.attributes(attributes);
            let mut attributes = Vec::with_capacity(named.len() + 2 + END);
            attributes.extend_from_slice(named);
            attributes.push(KeyValue::new("balance.pick.reason", reason));
            attributes.push(KeyValue::new("balance.attempt", number));
            // gRFC A72's name.
            SpanBuilder::from_name(["Attempt.", &self.method].concat())
                .with_kind(SpanKind::Internal)
                .with_attributes(attributes)
        });
        match begun {
            Begun::Span(span) => {
                header::write(span.span_context(), headers);
                TracedAttempt::new(span)
            }
            Begun::Passed(context) => {
                header::write(&context, headers);
                TracedAttempt::default()
            }
            Begun::Undecided => TracedAttempt::default(),
        }
    }
}

/// What the spans of attempts say of the endpoint that they go to.
fn attributes(instance: &Instance) -> Box<[KeyValue]> {
    let address = instance.address();
    // A Unix socket is an address without a port.
    let host = address.host().unwrap_or(address.as_str());
    let port = address.port().map(i64::from);
    let port = port.map(|port| KeyValue::new("server.port", port));
    let id = KeyValue::new("balance.endpoint", Arc::<str>::from(instance.id.as_str()));
    let host = KeyValue::new(SERVER, Arc::<str>::from(host));
    [id, host].into_iter().chain(port).collect()
}
