//! How a call's attempts follow one another, or run beside one another (gRFC A6).

use std::{future::pending, mem};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body::Body;
use registry::Cause;
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shared,
    attempt::First,
    call::{Call, Progress},
    outcome::{Answer, Failed, Outcome},
};
use crate::{
    retry::{Hedges, Tries},
    status::Status,
    transport::RequestBody,
};

impl Shared {
    /// Makes one attempt after the other, until one is answered or no more are allowed; the first begins like that.
    pub(super) async fn retried<B>(
        &self,
        call: &Call,
        progress: &Progress,
        body: &RequestBody<B>,
        first: First,
    ) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let (mut tries, mut next) = (Tries::default(), first);
        loop {
            let attempt =
                self.attempt(call, progress, body, tries.previous(), mem::take(&mut next));
            let failed = match attempt.await? {
                Outcome::Answered(answer) => {
                    body.commit(answer.sending);
                    return Ok(answer);
                }
                Outcome::Failed(failed) => failed,
            };
            let policy = call.method.as_ref().and_then(|m| m.retry.as_ref());
            let wait = tries.after(&failed.failure, policy, call.throttle.as_deref());
            let Some(wait) = wait.filter(|_| body.is_replayable()) else {
                return failed.conclude(body);
            };
            self.log(progress, || {
                let status = failed.failure.status.code.name();
                // What a server says besides is for the caller, and may be nothing for a log.
                tracing::debug!(
                    method = call.head.path(),
                    status,
                    ?wait,
                    "an attempt has failed: the call is tried again"
                );
            });
            drop(failed);
            progress.measured.retried(wait);
            sleep(wait).await;
        }
    }

    /// Makes further attempts while others are under way, each at another endpoint when there is one, until one of them is
    /// answered; the others are cancelled. While an answer is on its way there are no more, and what becomes of others does not matter.
    pub(super) async fn hedged<B>(
        &self,
        call: &Call,
        progress: &Progress,
        body: &RequestBody<B>,
    ) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let throttle = call.throttle.as_deref();
        let Some(policy) = call.method.as_ref().and_then(|m| m.hedging.as_ref()) else {
            unreachable!("only a call with a policy for it is hedged");
        };
        let attempt = |previous| self.attempt(call, progress, body, previous, First::Anew);
        let mut hedges = Hedges::new(policy, Instant::now());
        let mut running = FuturesUnordered::new();
        running.push(attempt(0));
        loop {
            let ended = select! {
                biased;
                Some(ended) = running.next() => ended,
                () = due(&hedges), if !progress.is_answered() => {
                    if progress.is_answered() {
                        // It has begun in the meantime.
                    } else if !body.is_replayable() {
                        hedges.stop();
                    } else if let Some(previous) = hedges.start(Instant::now(), throttle) {
                        progress.measured.hedged();
                        running.push(attempt(previous));
                    }
                    continue;
                }
            };
            // A stream that outgrew its buffer is committed to the attempt that had read furthest. What comes of that one is
            // what comes of the call, and how the others end says nothing.
            let winner = body.winner();
            match ended.unwrap_or_else(|status| Outcome::Failed(Failed::unsent(status))) {
                Outcome::Answered(answer) if body.commit(answer.sending) => return Ok(answer),
                Outcome::Failed(_) if winner.is_none() && progress.is_answered() => hedges.lost(),
                Outcome::Failed(failed) if winner.is_none_or(|winner| winner == failed.sending) => {
                    hedges.failed(&failed.failure, Instant::now(), throttle);
                    if hedges.is_over() || winner.is_some() {
                        return failed.conclude(body);
                    }
                }
                Outcome::Answered(_) | Outcome::Failed(_) => hedges.lost(),
            }
        }
    }
}

/// Waits until the next hedge is due; for ever when there is none to come. Cancellation safe.
async fn due(hedges: &Hedges<'_>) {
    match hedges.due() {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
