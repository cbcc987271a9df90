//! One report of a server's load, and how it comes with a call's trailers.

use std::collections::HashMap;

use base64::{DecodeError, Engine};
use http::HeaderMap;
use prost::Message;

use crate::status::BINARY;

/// The trailer that has it (gRFC A51).
const TRAILER: &str = "endpoint-load-metrics-bin";

/// `xds.data.orca.v3.OrcaLoadReport`. Whatever a server writes is in here: negative and endless numbers, too.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LoadReport {
    /// The share of its processors that the server uses; above 1.0 when it wants more than it has.
    #[prost(double, tag = "1")]
    pub(crate) cpu_utilization: f64,
    /// The share of its memory that the server uses.
    #[prost(double, tag = "2")]
    pub(crate) mem_utilization: f64,
    /// What this one call has cost, by the application's own names.
    #[prost(map = "string, double", tag = "4")]
    pub(crate) request_cost: HashMap<String, f64>,
    /// Shares in use of other resources, by the application's own names.
    #[prost(map = "string, double", tag = "5")]
    pub(crate) utilization: HashMap<String, f64>,
    /// Calls a second.
    #[prost(double, tag = "6")]
    pub(crate) rps_fractional: f64,
    /// Errors a second.
    #[prost(double, tag = "7")]
    pub(crate) eps: f64,
    /// Any other numbers, by the application's own names.
    #[prost(map = "string, double", tag = "8")]
    pub(crate) named_metrics: HashMap<String, f64>,
    /// How busy the application says that it is; above 1.0 when it has more to do than it can.
    #[prost(double, tag = "9")]
    pub(crate) application_utilization: f64,
}

/// The trailer is there and cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedReport {
    #[error("{TRAILER} is not base64")]
    Base64(#[from] DecodeError),
    #[error("{TRAILER} is no OrcaLoadReport")]
    Message(#[from] prost::DecodeError),
}

impl LoadReport {
    /// The report in a call's trailers, where there is one.
    pub(crate) fn in_trailers(trailers: &HeaderMap) -> Result<Option<Self>, MalformedReport> {
        let Some(text) = trailers.get(TRAILER) else {
            return Ok(None);
        };
        let encoded = BINARY.decode(text.as_bytes())?;
        Ok(Some(Self::decode(encoded.as_slice())?))
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use http::{HeaderMap, HeaderValue};
    use proptest::{collection::vec, prelude::*};

    use super::{BINARY, Engine, LoadReport, MalformedReport, TRAILER};

    fn read(text: &[u8]) -> Result<Option<LoadReport>, MalformedReport> {
        let value = HeaderValue::from_bytes(text).expect("a value");
        let name = TRAILER.parse().expect("a name");
        LoadReport::in_trailers(&HeaderMap::from_iter([(name, value)]))
    }

    #[test]
    fn every_field_is_read_by_its_number_with_padding_and_without() {
        // Written by hand: tag and wire type, then the number; 0.5 is 0x3FE0…, little-endian. Field 3, an integer that is
        // no longer used, comes first.
        let half = [0, 0, 0, 0, 0, 0, 0xE0, 0x3F];
        let mut bytes = vec![3 << 3, 7];
        for field in [1, 2, 6, 7, 9] {
            bytes.push(field << 3 | 1);
            bytes.extend(half);
        }
        for field in [4, 5, 8] {
            bytes.extend([field << 3 | 2, 12, 1 << 3 | 2, 1, b'x', 2 << 3 | 1]);
            bytes.extend(half);
        }
        let named = || [("x".to_owned(), 0.5)].into();
        let report = LoadReport {
            cpu_utilization: 0.5,
            mem_utilization: 0.5,
            request_cost: named(),
            utilization: named(),
            rps_fractional: 0.5,
            eps: 0.5,
            named_metrics: named(),
            application_utilization: 0.5,
        };
        // 89 bytes end in base64 with one `=`.
        let padded = BASE64_STANDARD.encode(&bytes);
        let bare = padded.trim_end_matches('=');
        assert_ne!(padded, bare);
        for text in [padded.as_str(), bare] {
            let read = read(text.as_bytes()).expect("well formed");
            assert_eq!(read.as_ref(), Some(&report), "{text}");
        }
    }

    #[test]
    fn no_trailer_is_no_report_and_an_empty_one_an_empty_report() {
        let none = LoadReport::in_trailers(&HeaderMap::new()).expect("nothing to refuse");
        assert_eq!(none, None);
        let empty = read(b"").expect("well formed");
        assert_eq!(empty, Some(LoadReport::default()));
    }

    #[test]
    fn what_is_not_base64_and_what_is_no_report_are_told_apart() {
        assert!(matches!(read(b"%%%"), Err(MalformedReport::Base64(_))));
        assert!(matches!(read(b"/////w"), Err(MalformedReport::Message(_))));
    }

    proptest! {
        #[test]
        fn no_trailer_panics(text in vec(0x20..0x7F_u8, 0..200), bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&text);
            let text = BINARY.encode(bytes);
            let _ = read(text.as_bytes());
        }
    }
}
