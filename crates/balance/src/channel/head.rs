//! What every attempt of a call says before its body.

use std::{mem, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use opentelemetry::trace::SpanContext;

use crate::{
    trace::header::{self, TRACEPARENT, TRACESTATE},
    transport::{
        GRPC_TIMEOUT, Timeout,
        rpc::{self, GRPC, TRAILERS},
    },
};

/// What every attempt of a call says.
///
/// The first sends the caller's own request. What is kept is what another is put together from, since there is nearly never
/// another.
pub(super) struct Head {
    path: PathAndQuery,
    /// Another scheme and authority than the channel's.
    origin: Option<Box<(Scheme, Authority)>>,
    /// What the caller says beside what gRPC asks for, or otherwise than the channel would.
    said: Vec<(HeaderName, HeaderValue)>,
}

/// What a caller's request says of its call that each attempt tells its server in words of its own.
pub(super) struct Asked {
    /// How long the caller waits, where it says so in `grpc-timeout`.
    pub(super) timeout: Option<Duration>,
    /// What the call belongs to.
    pub(super) parent: SpanContext,
}

impl Head {
    /// Reads a caller's request, and adds to it what gRPC asks for and what the channel says of itself. What it belongs to is taken
    /// away where the call `is_traced`.
    pub(super) fn of(
        request: &mut http::Request<()>,
        ours: &rpc::Head,
        is_traced: bool,
    ) -> (Self, Asked) {
        let headers = request.headers_mut();
        // One look at each header costs less than to ask the map for each of these.
        let (mut te, mut content_type, mut timeout) = (false, false, None);
        let (mut user_agent, mut belongs) = (None, false);
        let mut said = Vec::new();
        for (name, value) in headers.iter_mut() {
            if *name == TE {
                te = true;
                continue;
            } else if *name == CONTENT_TYPE {
                content_type = true;
                if *value == GRPC {
                    continue;
                }
            } else if *name == USER_AGENT {
                user_agent = Some(rpc::before(value, &ours.user_agent));
                continue;
            } else if *name == GRPC_TIMEOUT {
                timeout = Timeout::read(value);
                if timeout.is_some_and(Timeout::never_recurs) {
                    value.set_sensitive(true);
                }
                continue;
            } else if is_traced && (*name == TRACEPARENT || *name == TRACESTATE) {
                belongs = true;
                continue;
            }
            said.push((name.clone(), value.clone()));
        }
        let parent = if belongs {
            header::take(headers)
        } else {
            SpanContext::NONE
        };
        if !te {
            headers.insert(TE, TRAILERS);
        }
        if !content_type {
            headers.insert(CONTENT_TYPE, GRPC);
        }
        let both = user_agent.inspect(|both| said.push((USER_AGENT, both.clone())));
        headers.insert(USER_AGENT, both.unwrap_or_else(|| ours.user_agent.clone()));
        let mut uri = mem::take(request.uri_mut()).into_parts();
        let path = uri.path_and_query.clone();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let origin = match (&mut uri.scheme, &mut uri.authority) {
            (Some(scheme), Some(authority)) => Some(Box::new((scheme.clone(), authority.clone()))),
            (scheme, authority) => {
                *scheme = Some(ours.scheme.clone());
                *authority = Some(ours.authority.clone());
                None
            }
        };
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        (Self { path, origin, said }, Asked { timeout, parent })
    }

    /// Whether there is metadata beside what gRPC asks for.
    pub(super) fn has_metadata(&self) -> bool {
        !self.said.is_empty()
    }

    /// The method: `/package.Service/Method`.
    pub(super) fn path(&self) -> &str {
        self.path.path()
    }

    /// A request that says the same, for an attempt that does not take the caller's own.
    pub(super) fn again(&self, ours: &rpc::Head) -> http::Request<()> {
        let mut request = ours.request(self.path.clone());
        if let Some(origin) = &self.origin {
            let mut uri = mem::take(request.uri_mut()).into_parts();
            (uri.scheme, uri.authority) = (Some(origin.0.clone()), Some(origin.1.clone()));
            *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        }
        let headers = request.headers_mut();
        for (name, value) in &self.said {
            if *name == CONTENT_TYPE || *name == USER_AGENT {
                headers.insert(name, value.clone());
            } else {
                headers.append(name, value.clone());
            }
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Authority, CONTENT_TYPE, Duration, GRPC_TIMEOUT, Head, HeaderValue, Scheme, TRACEPARENT,
        TRACESTATE, USER_AGENT, rpc,
    };

    fn ours() -> rpc::Head {
        rpc::Head {
            scheme: Scheme::HTTP,
            authority: Authority::from_static("greeter"),
            user_agent: HeaderValue::from_static("us"),
        }
    }

    #[test]
    fn every_attempt_says_the_same() {
        let request = http::Request::get("/a.B/C")
            .header("x-a", "1")
            .header("x-b", "2")
            .header("x-b", "3")
            .header(CONTENT_TYPE, "application/grpc+proto")
            .header(GRPC_TIMEOUT, "1S");
        let mut first = request.body(()).expect("a request");
        let ours = ours();
        let (head, asked) = Head::of(&mut first, &ours, true);
        assert_eq!(asked.timeout, Some(Duration::from_secs(1)));
        assert_eq!(
            first.headers_mut().remove(GRPC_TIMEOUT),
            Some(HeaderValue::from_static("1S"))
        );
        let second = head.again(&ours);
        assert_eq!(first.headers(), second.headers());
        assert_eq!(first.headers().len(), 6);
        assert_eq!(first.uri(), "http://greeter/a.B/C");
        assert_eq!(first.uri(), second.uri());
        assert_eq!(first.method(), second.method());
        assert_eq!(first.version(), second.version());
    }

    #[test]
    fn what_is_left_of_another_call_s_time_stays_out_of_the_table() {
        let ours = ours();
        for (timeout, stays_out) in [("10S", false), ("9998765u", true)] {
            let request = http::Request::post("/a.B/C").header(GRPC_TIMEOUT, timeout);
            let mut request = request.body(()).expect("a request");
            Head::of(&mut request, &ours, true);
            let sent = &request.headers()[GRPC_TIMEOUT];
            assert_eq!(sent.is_sensitive(), stays_out, "{timeout}");
        }
    }

    #[test]
    fn what_a_call_belongs_to_is_taken_away_where_it_is_traced() {
        let ours = ours();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for is_traced in [true, false] {
            let request = http::Request::post("/a.B/C")
                .header(TRACEPARENT, parent)
                .header(TRACESTATE, "a=1");
            let mut request = request.body(()).expect("a request");
            let (head, asked) = Head::of(&mut request, &ours, is_traced);
            assert_eq!(asked.parent.is_valid(), is_traced);
            for headers in [request.headers(), head.again(&ours).headers()] {
                assert_eq!(headers.contains_key(TRACEPARENT), !is_traced);
                assert_eq!(headers.contains_key(TRACESTATE), !is_traced);
            }
        }
    }

    #[test]
    fn every_attempt_keeps_to_what_the_caller_says_of_itself() {
        let request = http::Request::post("https://origin:7/a.B/C")
            .header(CONTENT_TYPE, "application/grpc")
            .header(USER_AGENT, "them");
        let mut first = request.body(()).expect("a request");
        let ours = ours();
        let (head, _) = Head::of(&mut first, &ours, true);
        let second = head.again(&ours);
        assert_eq!(first.uri(), "https://origin:7/a.B/C");
        assert_eq!(second.uri(), first.uri());
        assert_eq!(second.headers()[USER_AGENT], "them us");
        assert_eq!(second.headers(), first.headers());
    }
}
