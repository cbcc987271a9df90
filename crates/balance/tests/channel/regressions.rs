//! What users of gRPC in Rust suffer from, one test for each: it must not happen here. Issues without a repository are
//! grpc/grpc-rust's (formerly hyperium/tonic).

mod connections;
mod endpoints;
mod retries;

use balance::Channel;
use registry::Address;

const RETRIES: &str = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.01s",
    "maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;

fn state_of(channel: &Channel, address: &Address) -> String {
    let endpoints = channel.explain().endpoints;
    let mut endpoints = endpoints.into_iter();
    let endpoint = endpoints.find(|endpoint| endpoint.id == address.as_str());
    endpoint.expect("an endpoint").state
}
