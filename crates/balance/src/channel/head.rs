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
    transport::{GRPC_TIMEOUT, Timeout},
};

/// The request's own headers, and those that gRPC asks for.
///
/// The first attempt takes the headers as they are, because there is nearly never another; for that one they are kept in
/// pieces.
#[derive(Clone)]
pub(super) struct Head {
    uri: Uri,
    headers: HeaderMap,
    taken: Option<Pieces>,
    /// Headers beside those that gRPC asks for.
    others: usize,
}

/// Headers that have been given away.
#[derive(Clone)]
struct Pieces {
    content_type: HeaderValue,
    user_agent: HeaderValue,
    others: Vec<(HeaderName, HeaderValue)>,
}

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

impl Head {
    /// The head, and how long its caller waits, as it says in `grpc-timeout`.
    pub(super) fn new(
        uri: Uri,
        mut headers: HeaderMap,
        scheme: &Scheme,
        authority: &Authority,
        user_agent: &HeaderValue,
    ) -> (Self, Option<(Duration, HeaderValue)>) {
        // One look at each header costs less than to ask the map for each of these.
        let (mut te, mut content_type, mut agent, mut timeout) = (false, false, false, None);
        let mut others = headers.len();
        for (name, value) in &headers {
            if *name == TE {
                te = true;
            } else if *name == CONTENT_TYPE {
                content_type = true;
            } else if *name == USER_AGENT {
                agent = true;
            } else if *name == GRPC_TIMEOUT {
                timeout = Timeout::read(value).map(|timeout| (timeout, value.clone()));
            } else {
                continue;
            }
            others -= 1;
        }
        if !te {
            headers.insert(TE, TRAILERS);
        }
        if !content_type {
            headers.insert(CONTENT_TYPE, GRPC);
        }
        if !agent {
            headers.insert(USER_AGENT, user_agent.clone());
        }
        let head = Self {
            uri: complete(uri, scheme, authority),
            headers,
            taken: None,
            others,
        };
        (head, timeout)
    }

    /// The method: `/package.Service/Method`.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Those of the next attempt.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether there is metadata beside what gRPC asks for.
    pub(super) fn has_metadata(&self) -> bool {
        self.others > 0
    }

    /// Puts the headers together again that an attempt has taken.
    pub(super) fn restore(&mut self) {
        let Some(pieces) = self.taken.take() else {
            return;
        };
        self.headers.insert(TE, TRAILERS);
        self.headers.insert(CONTENT_TYPE, pieces.content_type);
        self.headers.insert(USER_AGENT, pieces.user_agent);
        for (name, value) in pieces.others {
            self.headers.append(name, value);
        }
    }

    /// The head of an attempt that begins `now`, after `previous` others.
    pub(super) fn request(
        &mut self,
        timeout: Option<&Timeout>,
        now: Instant,
        previous: u32,
    ) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        self.taken = Some(self.pieces());
        let headers = request.headers_mut();
        *headers = std::mem::take(&mut self.headers);
        if let Some(timeout) = timeout {
            headers.insert(GRPC_TIMEOUT, timeout.left(now));
        }
        if previous > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        request
    }

    fn pieces(&self) -> Pieces {
        let mut pieces = Pieces {
            content_type: GRPC,
            user_agent: GRPC,
            others: Vec::with_capacity(self.others),
        };
        for (name, value) in &self.headers {
            if *name == CONTENT_TYPE {
                pieces.content_type = value.clone();
            } else if *name == USER_AGENT {
                pieces.user_agent = value.clone();
            } else if *name != TE && *name != GRPC_TIMEOUT {
                pieces.others.push((name.clone(), value.clone()));
            }
        }
        pieces
    }
}

/// The request's URI with what HTTP/2 asks for and a caller leaves out.
fn complete(uri: Uri, scheme: &Scheme, authority: &Authority) -> Uri {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return uri;
    }
    let mut uri = uri.into_parts();
    uri.scheme.get_or_insert_with(|| scheme.clone());
    uri.authority.get_or_insert_with(|| authority.clone());
    Uri::from_parts(uri).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{
        Authority, Duration, GRPC_TIMEOUT, Head, HeaderMap, HeaderValue, Instant, Scheme, Timeout,
        Uri,
    };

    #[test]
    fn every_attempt_says_the_same() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.append("x-b", HeaderValue::from_static("2"));
        headers.append("x-b", HeaderValue::from_static("3"));
        headers.insert(
            "content-type",
            HeaderValue::from_static("application/grpc+proto"),
        );
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        let (mut head, timeout) = Head::new(
            Uri::from_static("/a.B/C"),
            headers,
            &Scheme::HTTP,
            &Authority::from_static("greeter"),
            &HeaderValue::from_static("us"),
        );
        assert_eq!(
            timeout,
            Some((Duration::from_secs(1), HeaderValue::from_static("1S")))
        );
        let now = Instant::now();
        let timeout = Timeout::after(Duration::from_secs(1), now).expect("soon");
        let first = head.request(Some(&timeout), now, 0);
        head.restore();
        let second = head.request(Some(&timeout), now, 0);
        assert_eq!(first.headers(), second.headers());
        assert_eq!(first.headers().len(), 7);
        assert_eq!(first.uri(), "http://greeter/a.B/C");
        head.restore();
        let third = head.request(None, now, 2);
        assert!(third.headers().get(GRPC_TIMEOUT).is_none());
        assert_eq!(third.headers()["grpc-previous-rpc-attempts"], "2");
    }
}
