//! The channels that are compared.

mod bare_h2;
mod watched;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use balance::ConnectivityState;
use bytes::Bytes;
use clap::ValueEnum;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::{Service, StdError},
    transport::{Channel, Endpoint},
};

pub(crate) use bare_h2::BareH2;
pub(crate) use watched::Watch;

/// A channel to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// tonic's `Channel` to one server: the yardstick.
    TonicOne,
    /// tonic's `Channel::balance_list` over three servers.
    TonicBalance,
    /// `balance::Channel`, round robin over three servers.
    Balance,
    /// The same with one call in a hundred traced.
    BalanceTraced,
    /// That with metrics as well.
    BalanceWatched,
    /// `balance::Channel` with all of [`FULL`].
    BalanceFull,
    /// That to one server only, as the yardstick.
    BalanceFullOne,
    /// `h2` with nothing around it, over three servers in turn: what a channel that is made of it starts from.
    BareH2,
    /// No channel: what tonic's client does by itself.
    InMemory,
}

/// What a full channel is.
pub(crate) const FULL: &str =
    "round robin; full is with a deadline and a retry policy for each call, and outlier detection";

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TonicOne => "tonic Channel, one server",
            Self::TonicBalance => "tonic balance_list, three servers",
            Self::Balance => "balance::Channel, three servers",
            Self::BalanceTraced => "balance::Channel, traces at 1 %, three servers",
            Self::BalanceWatched => "balance::Channel, traces at 1 % and metrics, three servers",
            Self::BalanceFull => "balance::Channel, full, three servers",
            Self::BalanceFullOne => "balance::Channel, full, one server",
            Self::BareH2 => "bare h2, three servers",
            Self::InMemory => "none: a service in memory that answers at once",
        }
    }

    /// The word by which the command line names it.
    pub(crate) fn word(self) -> String {
        self.to_possible_value()
            .expect("no peer is skipped")
            .get_name()
            .to_owned()
    }
}

/// What a generated client runs over, in tasks.
pub(crate) trait Measured:
    GrpcService<
        Body,
        Future: Send,
        ResponseBody: tonic::codegen::Body<Data = Bytes, Error: Into<StdError> + Send>
                          + Send
                          + 'static,
        Error: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<C> Measured for C where
    C: GrpcService<
            Body,
            Future: Send,
            ResponseBody: tonic::codegen::Body<Data = Bytes, Error: Into<StdError> + Send>
                              + Send
                              + 'static,
            Error: Send,
        > + Clone
        + Send
        + 'static
{
}

pub(crate) async fn tonic_one(addresses: &[String]) -> Result<Channel> {
    Endpoint::from_shared(format!("http://{}", addresses[0]))?
        .connect()
        .await
        .context("cannot connect")
}

pub(crate) fn tonic_balance(addresses: &[String]) -> Result<Channel> {
    let endpoints = addresses
        .iter()
        .map(|address| Endpoint::from_shared(format!("http://{address}")));
    Ok(Channel::balance_list(
        endpoints.collect::<Result<Vec<_>, _>>()?.into_iter(),
    ))
}

/// A channel to all `addresses` in the making, with a service config or without.
pub(crate) fn balanced(addresses: &[String], service_config: Option<String>) -> balance::Builder {
    let builder = balance::Channel::builder(format!("static:///{}", addresses.join(",")))
        .descriptors(proto::DESCRIPTORS);
    match service_config {
        Some(config) => builder.service_config(config),
        None => builder,
    }
}

/// The same with all of [`FULL`].
pub(crate) fn full(addresses: &[String]) -> balance::Builder {
    balanced(addresses, Some(SERVICE_CONFIG.to_owned()))
}

/// The channel, once one of its endpoints is ready for calls.
pub(crate) async fn connected(builder: balance::Builder) -> Result<balance::Channel> {
    let channel = builder.build()?;
    let mut state = channel.state();
    while state != ConnectivityState::Ready {
        state = channel.wait_for_state_change(state).await;
    }
    Ok(channel)
}

/// What [`FULL`] says.
pub(crate) const SERVICE_CONFIG: &str = r#"{
    "loadBalancingConfig": [{"outlier_detection": {
        "interval": "1s", "successRateEjection": {}, "failurePercentageEjection": {}, "childPolicy": [{"round_robin": {}}]
    }}],
    "methodConfig": [{"name": [{}], "timeout": "10s", "retryPolicy": {
        "maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"]
    }}]
}"#;

/// Answers with the request's own bytes, in the headers and trailers that the servers send: what is allocated over it is
/// the request's and the response's own.
#[derive(Debug, Clone)]
pub(crate) struct InMemory;

type Frames = tokio_stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>;

impl Service<http::Request<Body>> for InMemory {
    type Response = http::Response<StreamBody<Frames>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [
            Frame::data(unary_message(request)),
            Frame::trailers(trailers),
        ]
        .map(Ok);
        let mut response = http::Response::new(StreamBody::new(tokio_stream::iter(frames)));
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert(
            "date",
            HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"),
        );
        ready(Ok(response))
    }
}

/// The one frame of a unary request, which tonic has at once.
fn unary_message(request: http::Request<Body>) -> Bytes {
    let mut body = request.into_body();
    let mut frame = std::pin::pin!(body.frame());
    match frame
        .as_mut()
        .poll(&mut Context::from_waker(std::task::Waker::noop()))
    {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}
