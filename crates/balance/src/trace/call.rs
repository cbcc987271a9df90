//! A call as it is traced.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{Begun, METHOD, SERVER, SYSTEM, TracedAttempt, Tracing, end, header};
use crate::{endpoint::Endpoint, policy::Why, status::Code};
use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    global::BoxedSpan,
    trace::{Span, SpanBuilder, SpanContext, SpanKind},
};

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
    method: Box<str>,
    policy: Cow<'static, str>,
    attempts: AtomicI64,
}

impl CallTracing {
    /// Of a channel to `target`.
    pub(crate) fn new(tracing: Tracing, target: Arc<str>) -> Self {
        Self { tracing, target }
    }

    /// A call begins; what its request says of its parent is taken away, for each attempt says its own. The policy's name is
    /// asked for of a call that is traced.
    pub(crate) fn begin(
        &self,
        request: &mut http::Request<()>,
        policy: impl FnOnce() -> Cow<'static, str>,
    ) -> TracedCall {
        let said = header::take(request.headers_mut());
        let current = self.tracing.current();
        let parent = if current.is_valid() { current } else { said };
        let path = request.uri().path();
        let method = || path.strip_prefix('/').unwrap_or(path);
        let begun = self.tracing.begin(parent, || {
            SpanBuilder::from_name(method().to_owned())
                .with_kind(SpanKind::Client)
                .with_attributes([
                    KeyValue::new(SYSTEM, "grpc"),
                    KeyValue::new(METHOD, method().to_owned()),
                    KeyValue::new(SERVER, Arc::clone(&self.target)),
                ])
        });
        match begun {
            Begun::Span(span) => TracedCall::Traced(Box::new(Call {
                tracing: self.tracing.clone(),
                span,
                method: method().into(),
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
            let instance = endpoint.instance();
            let address = instance.address();
            let reason = match why {
                Why::Policy => self.policy.clone(),
                why => Cow::Borrowed(why.name()),
            };
            let mut attributes = vec![
                KeyValue::new("balance.endpoint", Arc::<str>::from(instance.id.as_str())),
                KeyValue::new("balance.pick.reason", reason),
                KeyValue::new("balance.attempt", number),
            ];
            // A Unix socket is an address without a port.
            let host = address.host().unwrap_or(address.as_str());
            attributes.push(KeyValue::new(SERVER, Arc::<str>::from(host)));
            let port = address.port().map(i64::from);
            attributes.extend(port.map(|port| KeyValue::new("server.port", port)));
            // gRFC A72's name.
            SpanBuilder::from_name(format!("Attempt.{}", self.method))
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
