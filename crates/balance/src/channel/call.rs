//! One call: its deadline, its attempts, its response.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    request,
};
use http_body::Body;
use registry::Cause;
use tokio::time::{Instant, sleep};

use super::Shared;
use crate::{
    endpoint::{InFlight, ReadyEndpoint},
    options::{ServedBy, WaitForReady},
    retry::{Failure, PREVIOUS_ATTEMPTS, Tries},
    service_config::MethodConfig,
    status::{Code, Status},
    transport::{
        Deadline, Held, Receiving, RequestBody, ResponseBody, timeout_from, timeout_value,
    },
};

/// A call, apart from its body.
struct Call {
    head: Head,
    method: Option<Arc<MethodConfig>>,
    wait_for_ready: bool,
    /// When the call is over; told to each server as what is then left.
    until: Option<Instant>,
}

/// What is the same in every attempt.
struct Head {
    uri: Uri,
    headers: HeaderMap,
}

/// What came of an attempt.
enum Outcome {
    /// The server answers, and the call is committed to it; or the answer is final.
    Answered(Answer),
    /// The request never left: it goes elsewhere, as often as need be.
    NeverLeft,
    /// The server says that no application has seen the request: it goes elsewhere, once.
    Unprocessed(Status),
    /// The attempt failed before it was committed to. The answer, when there was one, is what the caller gets unless
    /// there is another attempt.
    Failed(Failure, Option<Answer>),
}

/// A response, and what its body needs.
struct Answer {
    head: http::response::Parts,
    stream: RecvStream,
    peer: Arc<str>,
    trailers_only: bool,
    held: Held,
}

impl Shared {
    /// Makes a call; whatever comes of it is told by the response's status.
    pub(super) async fn call<B>(&self, request: http::Request<B>) -> http::Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Cause>,
    {
        let (head, body) = request.into_parts();
        let method = self.config.method(head.uri.path()).cloned();
        let configured = method.as_ref().and_then(|method| method.timeout);
        // The earlier of the two counts (grpc/grpc `doc/service_config.md`).
        let timeout = timeout_from(&head.headers)
            .into_iter()
            .chain(configured)
            .min();
        let mut deadline = timeout.and_then(Deadline::after);
        let wait_for_ready = match head.extensions.get() {
            Some(WaitForReady(wanted)) => *wanted,
            None => method
                .as_ref()
                .and_then(|method| method.wait_for_ready)
                .unwrap_or(false),
        };
        let until = deadline.as_ref().map(Deadline::at);
        let call = Call {
            head: self.head(head),
            method,
            wait_for_ready,
            until,
        };
        let picked = AtomicBool::new(false);
        match Deadline::bound(deadline.as_mut(), self.attempts(call, body, &picked)).await {
            Ok(Ok(answer)) => answer.into_response(deadline),
            Ok(Err(status)) => status.to_response(),
            Err(_expired) => self
                .expired(timeout.unwrap_or_default(), picked.into_inner())
                .to_response(),
        }
    }

    /// What every attempt says: the request's own headers, and those that gRPC asks for.
    fn head(&self, head: request::Parts) -> Head {
        let mut uri = head.uri.into_parts();
        uri.scheme.get_or_insert(http::uri::Scheme::HTTP);
        uri.authority.get_or_insert_with(|| self.authority.clone());
        let mut headers = head.headers;
        headers
            .entry(TE)
            .or_insert(HeaderValue::from_static("trailers"));
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/grpc"));
        headers
            .entry(USER_AGENT)
            .or_insert_with(|| self.user_agent.clone());
        Head {
            uri: Uri::from_parts(uri).unwrap_or_default(),
            headers,
        }
    }

    async fn attempts<B>(&self, call: Call, body: B, picked: &AtomicBool) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Cause>,
    {
        let mut body = RequestBody::prepare(body).await?;
        let mut tries = Tries::default();
        loop {
            picked.store(false, Ordering::Relaxed);
            let endpoint = self.pick(call.wait_for_ready).await?;
            picked.store(true, Ordering::Relaxed);
            let (failure, answer) = match call.attempt(&endpoint, &mut body, tries.previous()).await
            {
                Outcome::Answered(answer) => return Ok(answer),
                Outcome::NeverLeft => continue,
                Outcome::Unprocessed(_) if body.is_replayable() && tries.transparently() => {
                    continue;
                }
                Outcome::Unprocessed(status) => (status.into(), None),
                Outcome::Failed(failure, answer) => (failure, answer),
            };
            let policy = call
                .method
                .as_ref()
                .and_then(|method| method.retry.as_ref());
            match tries.after(&failure, policy.filter(|_| body.is_replayable())) {
                Some(wait) => {
                    drop(answer);
                    sleep(wait).await;
                }
                None => return answer.ok_or(failure.status),
            }
        }
    }

    fn expired(&self, timeout: Duration, picked: bool) -> Status {
        let doing = if picked {
            "the response did not come".to_owned()
        } else {
            format!(
                "no instance of {} was ready: {}",
                self.target,
                self.why_none()
            )
        };
        Status::new(
            Code::DeadlineExceeded,
            format!("{doing} within {timeout:?}"),
        )
    }
}

impl Call {
    async fn attempt<B>(
        &self,
        endpoint: &ReadyEndpoint,
        body: &mut RequestBody<B>,
        previous: u32,
    ) -> Outcome
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Cause>,
    {
        let connection = &endpoint.connection;
        let Some((mut send, slot)) = connection.stream().await else {
            return Outcome::NeverLeft;
        };
        let (response, stream) = match send.send_request(self.request(previous), false) {
            Ok(opened) => opened,
            Err(error) if is_ours(&error) => {
                return Outcome::Failed(Status::from_h2(connection.peer(), &error).into(), None);
            }
            Err(_closing) => {
                connection.retire();
                return Outcome::NeverLeft;
            }
        };
        let in_flight = InFlight::count(&endpoint.endpoint);
        let upload = match body.send(stream) {
            Ok(upload) => upload,
            Err(error) => return unanswered(endpoint, &error),
        };
        match response.await {
            Ok(response) => answered(
                endpoint,
                response,
                Held {
                    _upload: upload,
                    _slot: slot,
                    _in_flight: in_flight,
                },
            ),
            Err(error) => unanswered(endpoint, &error),
        }
    }

    fn request(&self, previous: u32) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.head.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.head.headers);
        if let Some(until) = self.until {
            let (name, left) = timeout_value(until.saturating_duration_since(Instant::now()));
            headers.insert(name, left);
        }
        if previous > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        request
    }
}

fn answered(endpoint: &ReadyEndpoint, response: http::Response<RecvStream>, held: Held) -> Outcome {
    let (mut parts, stream) = response.into_parts();
    let peer = endpoint.connection.peer();
    let content = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc = content.is_some_and(|value| value.starts_with(b"application/grpc"));
    let code = Code::in_headers(&parts.headers);
    if code.is_none() && (parts.status != StatusCode::OK || !is_grpc) {
        return Outcome::Failed(Status::from_http(peer, parts.status).into(), None);
    }
    parts
        .extensions
        .insert(ServedBy(Arc::clone(&endpoint.endpoint.instance)));
    let failure = code
        .filter(|code| *code != Code::Ok)
        .map(|code| Failure::in_trailers(code, &parts.headers));
    let answer = Answer {
        head: parts,
        stream,
        peer: Arc::clone(peer),
        trailers_only: code.is_some(),
        held,
    };
    match failure {
        Some(failure) => Outcome::Failed(failure, Some(answer)),
        None => Outcome::Answered(answer),
    }
}

/// Whether it is the request that h2 did not take, and not the connection that takes no more.
fn is_ours(error: &h2::Error) -> bool {
    !error.is_io() && error.reason().is_none()
}

/// What the end of a stream means that came before any response.
fn unanswered(endpoint: &ReadyEndpoint, error: &h2::Error) -> Outcome {
    let status = Status::from_h2(endpoint.connection.peer(), error);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends with a GOAWAY just the streams above its last id, which the server will never look at.
    if refused || (error.is_go_away() && error.is_remote()) {
        Outcome::Unprocessed(status)
    } else {
        Outcome::Failed(status.into(), None)
    }
}

impl Answer {
    fn into_response(self, deadline: Option<Deadline>) -> http::Response<ResponseBody> {
        let Self {
            head,
            stream,
            peer,
            trailers_only,
            held,
        } = self;
        let receiving = Receiving {
            stream,
            peer,
            trailers_only,
            _held: held,
        };
        let body = ResponseBody::new(receiving, deadline);
        http::Response::from_parts(head, body)
    }
}
