//! Names that HPACK (RFC 7541) is to know of headers whose values never recur.
//!
//! Such a value is marked as sensitive, which keeps it out of the table that both sides have: there it would push out what does
//! recur. But then its name is spelled out each time as well. One value that is let in has the name known for all that come after.

use http::{HeaderMap, HeaderName};

use crate::{
    trace::header::{TRACEPARENT, TRACESTATE},
    transport::GRPC_TIMEOUT,
};

static NAMES: [HeaderName; 3] = [TRACEPARENT, TRACESTATE, GRPC_TIMEOUT];
/// In so many requests one of each name is looked for; a channel that has not sent it by then hardly ever does.
const REQUESTS: u8 = 64;

/// Which names the other side of a connection does not know yet.
#[derive(Debug)]
pub(super) struct UnknownNames {
    names: [Option<&'static HeaderName>; 3],
    requests: u8,
}

impl Default for UnknownNames {
    fn default() -> Self {
        Self {
            names: NAMES.each_ref().map(Some),
            requests: REQUESTS,
        }
    }
}

impl UnknownNames {
    /// Lets a value of each name that is not known yet into the table, of the next request.
    #[inline]
    pub(super) fn tell(&mut self, headers: &mut HeaderMap) {
        if self.requests > 0 {
            self.look(headers);
        }
    }

    #[cold]
    fn look(&mut self, headers: &mut HeaderMap) {
        self.requests -= 1;
        for unknown in &mut self.names {
            let value = unknown.and_then(|name| headers.get_mut(name));
            if let Some(value) = value {
                value.set_sensitive(false);
                *unknown = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

    use super::{GRPC_TIMEOUT, REQUESTS, TRACEPARENT, UnknownNames};

    fn sensitive(names: &[HeaderName]) -> HeaderMap {
        let value = || {
            let mut value = HeaderValue::from_static("1S");
            value.set_sensitive(true);
            value
        };
        names.iter().map(|name| (name.clone(), value())).collect()
    }

    #[test]
    fn the_first_value_of_each_name_is_let_into_the_table_and_no_other_is() {
        let mut unknown = UnknownNames::default();
        let mut headers = sensitive(&[TRACEPARENT]);
        unknown.tell(&mut headers);
        assert!(!headers[TRACEPARENT].is_sensitive());
        let mut headers = sensitive(&[TRACEPARENT, GRPC_TIMEOUT]);
        unknown.tell(&mut headers);
        assert!(headers[TRACEPARENT].is_sensitive());
        assert!(!headers[GRPC_TIMEOUT].is_sensitive());
    }

    #[test]
    fn what_a_caller_calls_sensitive_stays_so() {
        let mut headers = sensitive(&[AUTHORIZATION]);
        UnknownNames::default().tell(&mut headers);
        assert!(headers[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn what_is_never_sent_is_not_looked_for_for_ever() {
        let mut unknown = UnknownNames::default();
        for _ in 0..REQUESTS {
            unknown.tell(&mut HeaderMap::new());
        }
        let mut late = sensitive(&[TRACEPARENT]);
        unknown.tell(&mut late);
        assert!(late[TRACEPARENT].is_sensitive());
    }
}
