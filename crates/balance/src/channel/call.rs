//! One call: its deadline, its attempts, its response.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use registry::Cause;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    attempt::{Answer, Attempt, Outcome},
    head::Head,
};
use crate::{
    options::{Affinity, HashKey, WaitForReady},
    policy::CallInfo,
    retry::Tries,
    service_config::MethodConfig,
    status::{Code, Status},
    transport::{Deadline, REPLAY_BUFFER, RequestBody, ResponseBody},
};

/// A call, apart from its body.
struct Call {
    head: Head,
    method: Option<Arc<MethodConfig>>,
    wait_for_ready: bool,
    hash_key: Option<HashKey>,
    affinity: Option<Affinity>,
    /// When the call is over; told to each server as what is then left.
    until: Option<Instant>,
}

impl Shared {
    /// Makes a call; whatever comes of it is told by the response's status.
    pub(super) async fn call<B>(&self, request: http::Request<B>) -> http::Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let (parts, body) = request.into_parts();
        let priority = parts.extensions.get().copied().unwrap_or_default();
        let admitted = match self.admission.enter(priority) {
            Ok(admitted) => admitted,
            Err(refused) => return refused.to_response(),
        };
        let method = self.config.load().method(parts.uri.path()).cloned();
        let wait_for_ready = parts.extensions.get().map(|WaitForReady(wanted)| *wanted);
        let hash_key = parts.extensions.get().copied();
        let affinity = parts.extensions.get().cloned();
        let head = Head::new(parts.uri, parts.headers, &self.authority, &self.user_agent);
        let configured = method.as_ref().and_then(|method| method.timeout);
        // The earlier of the two counts (grpc/grpc `doc/service_config.md`).
        let timeout = head.timeout().into_iter().chain(configured).min();
        let mut deadline = timeout.and_then(Deadline::after);
        let call = Call {
            head,
            wait_for_ready: wait_for_ready
                .or_else(|| method.as_ref().and_then(|method| method.wait_for_ready))
                .unwrap_or(false),
            method,
            hash_key,
            affinity,
            until: deadline.as_ref().map(Deadline::at),
        };
        let picked = AtomicBool::new(false);
        match Deadline::bound(deadline.as_mut(), self.attempts(&call, body, &picked)).await {
            Ok(Ok(answer)) => answer.into_response(deadline, admitted),
            Ok(Err(status)) => status.to_response(),
            Err(_expired) => self
                .expired(&call, timeout.unwrap_or_default(), picked.into_inner())
                .to_response(),
        }
    }

    async fn attempts<B>(&self, call: &Call, body: B, picked: &AtomicBool) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Cause>,
    {
        let body = RequestBody::prepare(body, REPLAY_BUFFER, None)?;
        let mut tries = Tries::default();
        let mut elsewhere = Vec::new();
        let mut number = 0;
        loop {
            number += 1;
            picked.store(false, Ordering::Relaxed);
            let to = self
                .pick(&call.info(&elsewhere), call.wait_for_ready)
                .await?;
            picked.store(true, Ordering::Relaxed);
            let endpoint = to.endpoint.serial();
            let attempt = Attempt::begin(to, call.head.request(call.until, tries.previous()));
            let (failure, answer) = match attempt.run(&body, number).await {
                Outcome::Answered(answer) => {
                    body.commit(number);
                    return Ok(answer);
                }
                Outcome::NeverLeft => continue,
                Outcome::Unprocessed(_) if body.is_replayable() && tries.transparently() => {
                    elsewhere.push(endpoint);
                    continue;
                }
                Outcome::Unprocessed(status) => (status.into(), None),
                Outcome::Failed(failure, answer) => (failure, answer),
            };
            elsewhere.push(endpoint);
            let policy = call
                .method
                .as_ref()
                .and_then(|method| method.retry.as_ref());
            let wait = tries.after(&failure, policy, None);
            let Some(wait) = wait.filter(|_| body.is_replayable()) else {
                body.commit(number);
                return answer.ok_or(failure.status);
            };
            drop(answer);
            sleep(wait).await;
        }
    }

    fn expired(&self, call: &Call, timeout: Duration, picked: bool) -> Status {
        let doing = if picked {
            "the response did not come".to_owned()
        } else {
            format!(
                "no instance of {} was ready: {}",
                self.target,
                self.why_none(&call.info(&[]))
            )
        };
        Status::new(
            Code::DeadlineExceeded,
            format!("{doing} within {timeout:?}"),
        )
    }
}

impl Call {
    fn info<'c>(&'c self, tried: &'c [u64]) -> CallInfo<'c> {
        CallInfo {
            path: self.head.path(),
            headers: self.head.headers(),
            hash_key: self.hash_key,
            affinity: self.affinity.as_ref(),
            tried,
            repeated: false,
        }
    }
}
