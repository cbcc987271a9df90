//! A failure's kind for programs: `google.rpc.ErrorInfo` in `grpc-status-details-bin`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::HeaderValue;
use prost::Message;

use super::Code;

/// The trailer that holds a `google.rpc.Status` (grpc/grpc `doc/PROTOCOL-HTTP2.md`: binary values are base64).
pub(super) const STATUS_DETAILS: &str = "grpc-status-details-bin";

const DOMAIN: &str = "balance";
const TYPE_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// What kind of failure it is (googleapis `google/rpc/error_details.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorInfo<'a> {
    /// `UPPER_SNAKE_CASE`, and never changed.
    pub(crate) reason: &'static str,
    pub(crate) metadata: &'a [(&'static str, usize)],
}

#[derive(Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Message)]
struct ErrorInfoMessage {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// The trailer's value.
pub(super) fn encode(code: Code, message: &str, info: &ErrorInfo<'_>) -> HeaderValue {
    let info = ErrorInfoMessage {
        reason: info.reason.into(),
        domain: DOMAIN.into(),
        metadata: info
            .metadata
            .iter()
            .map(|(name, value)| ((*name).into(), value.to_string()))
            .collect(),
    };
    let status = RpcStatus {
        code: code.number().into(),
        message: message.into(),
        details: vec![Any {
            type_url: TYPE_URL.into(),
            value: info.encode_to_vec(),
        }],
    };
    let text = STANDARD_NO_PAD.encode(status.encode_to_vec());
    HeaderValue::try_from(text).expect("base64 is ASCII")
}
