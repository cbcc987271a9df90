//! What every attempt of a call says before its body.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, Scheme},
};
use tokio::time::Instant;

use crate::{
    retry::PREVIOUS_ATTEMPTS,
    transport::{GRPC_TIMEOUT, timeout_from, timeout_value},
};

/// The request's own headers, and those that gRPC asks for.
pub(super) struct Head {
    uri: Uri,
    headers: HeaderMap,
    timeout: Option<Duration>,
}

impl Head {
    pub(super) fn new(
        uri: Uri,
        mut headers: HeaderMap,
        scheme: Scheme,
        authority: &Authority,
        user_agent: &HeaderValue,
    ) -> Self {
        // One look at each header costs less than to ask the map for each of these.
        let (mut te, mut content_type, mut agent, mut timeout) = (false, false, false, None);
        for (name, value) in &headers {
            if *name == TE {
                te = true;
            } else if *name == CONTENT_TYPE {
                content_type = true;
            } else if *name == USER_AGENT {
                agent = true;
            } else if name == GRPC_TIMEOUT {
                timeout = timeout_from(value);
            }
        }
        let mut missing = |there: bool, name: HeaderName, value: HeaderValue| {
            if !there {
                headers.insert(name, value);
            }
        };
        missing(te, TE, HeaderValue::from_static("trailers"));
        missing(
            content_type,
            CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        missing(agent, USER_AGENT, user_agent.clone());
        Self {
            uri: complete(uri, scheme, authority),
            headers,
            timeout,
        }
    }

    /// The method: `/package.Service/Method`.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// How long the caller waits, as it says in `grpc-timeout`.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The head of an attempt that begins now, after `previous` others, of a call that is over at `until`.
    pub(super) fn request(&self, until: Option<Instant>, previous: u32) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            headers.insert(GRPC_TIMEOUT, timeout_value(left));
        }
        if previous > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        request
    }
}

/// The request's URI with what HTTP/2 asks for and a caller leaves out.
fn complete(uri: Uri, scheme: Scheme, authority: &Authority) -> Uri {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return uri;
    }
    let mut uri = uri.into_parts();
    uri.scheme.get_or_insert(scheme);
    uri.authority.get_or_insert_with(|| authority.clone());
    Uri::from_parts(uri).unwrap_or_default()
}
