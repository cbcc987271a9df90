//! A call, as its caller waits for the response.

use std::{
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body;
use registry::Cause;
use tokio::time::Instant;

use super::{
    Inner,
    attempt::{First, Leaving},
    call::{Pending, Progress},
    exchange::{Awaited, Begun, Exchange, Unfinished},
};
use crate::{
    channel::Admitted,
    transport::{Answering, Deadline, ResponseBody},
};

/// A call that has begun, until there is a response. It never fails; dropping it cancels the call.
pub struct ResponseFuture<B: Send + 'static>(Stage<B>);

enum Stage<B: Send + 'static> {
    /// The first attempt was sent at once, as nearly all are, and nothing else is there to do.
    Sent(Option<Arc<Exchange<B>>>),
    /// There is more to the call than that.
    Running(Pin<Box<dyn Future<Output = http::Response<ResponseBody>> + Send>>),
    /// It was over before it began.
    Refused(Box<http::Response<ResponseBody>>),
    Over,
}

impl<B> ResponseFuture<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    /// Begins a call: sends its request now, if it is known how and whereto.
    pub(super) fn begin(channel: &Arc<Inner>, request: http::Request<B>) -> Self {
        let began = Instant::now();
        if channel.shared.is_configured() {
            return Self::send(channel, request, began);
        }
        let channel = Arc::clone(channel);
        Self(Stage::Running(Box::pin(async move {
            channel.shared.configured(request.headers()).await;
            Self::send(&channel, request, began)
                .await
                .unwrap_or_else(|never| match never {})
        })))
    }

    fn send(channel: &Arc<Inner>, request: http::Request<B>, began: Instant) -> Self {
        let (parts, body) = request.into_parts();
        let mut request = http::Request::from_parts(parts, ());
        let published = channel.shared.published.load();
        let in_force = &published.in_force;
        let mut exchange = Arc::<Exchange<B>>::default();
        let state = Exchange::fresh(&mut exchange);
        let progress = &mut state.progress;
        let pending = match Pending::begin(channel, in_force, &mut request, body, began, progress) {
            Ok((pending, admitted)) => {
                state.admitted = Some(admitted);
                state.pending.insert(pending)
            }
            Err(refused) => return Self(Stage::Refused(refused)),
        };
        let Pending { call, body, .. } = &*pending;
        let deadline = pending.deadline();
        let to = if call.is_hedged() {
            None
        } else {
            published.pick_now(&call.info(request.headers(), &[]))
        };
        let Some(to) = to else {
            return Self::running(state.take(), deadline, First::Request(request));
        };
        let endpoint = to.endpoint.serial();
        let leaving = Leaving {
            request,
            since: began,
            now: began,
        };
        match call.start(leaving, progress, to, body, &mut state.held) {
            Ok(attempt) => {
                state.awaited = Awaited::Response(attempt.response);
                exchange.until(deadline);
                Self(Stage::Sent(Some(exchange)))
            }
            Err(sent) => Self::running(state.take(), deadline, First::Sent(endpoint, *sent)),
        }
    }

    fn running(
        (pending, progress, admitted): (Pending<B>, Progress, Admitted),
        deadline: Option<Deadline>,
        first: First,
    ) -> Self {
        Self(Stage::Running(Box::pin(
            pending.run(admitted, progress, deadline, first),
        )))
    }

    fn go_on(unfinished: Unfinished<B>) -> Self {
        let Unfinished {
            pending,
            progress,
            admitted,
            deadline,
            unsettled,
            held,
        } = unfinished;
        let endpoint = held.endpoint().serial();
        let sending = progress.sendings();
        Self::running(
            (pending, progress, admitted),
            deadline,
            First::Sent(endpoint, unsettled.by(held, sending)),
        )
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Cause>,
{
    type Output = Result<http::Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = loop {
            match &mut self.0 {
                Stage::Sent(exchange) => match ready!(Exchange::poll_response(exchange, cx)) {
                    Begun::Response(response) => break response,
                    Begun::Unfinished(unfinished) => *self = Self::go_on(*unfinished),
                },
                Stage::Running(call) => break ready!(call.as_mut().poll(cx)),
                Stage::Refused(response) => break mem::take(response),
                Stage::Over => return Poll::Pending,
            }
        };
        self.0 = Stage::Over;
        Poll::Ready(Ok(response))
    }
}

impl<B: Send + 'static> Drop for Stage<B> {
    fn drop(&mut self) {
        if let Self::Sent(Some(exchange)) = self {
            exchange.close();
        }
    }
}

impl<B: Send + 'static> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
