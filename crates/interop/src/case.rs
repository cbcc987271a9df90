//! The cases by their names, and how one is run.

mod cancellation;
mod compression;
mod metadata;
mod status;
mod streaming;
mod unary;

use std::time::Duration;

use anyhow::{Context as _, Result};
use balance::Channel;
use clap::ValueEnum;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::testing::test_service_client::TestServiceClient;

/// The longest that a case may take; each takes some milliseconds.
const BOUND: Duration = Duration::from_secs(20);

type Client = TestServiceClient<Channel>;

/// A case of grpc/grpc `doc/interop-test-descriptions.md`, by the name that it has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// Messages of zero bytes.
    EmptyUnary,
    /// 271,828 bytes there, 314,159 back.
    LargeUnary,
    /// Requests that are compressed and that are not; needs a server that can tell which is which.
    ClientCompressedUnary,
    /// Responses that are compressed as the request asks.
    ServerCompressedUnary,
    /// Compressed both ways, as by a tonic client that is told so. Not of gRPC's list: it needs no server that can tell
    /// whether a request was compressed.
    CompressedUnary,
    /// Four requests, and one response with the sum of their sizes.
    ClientStreaming,
    /// Four responses to one request.
    ServerStreaming,
    /// Four times a request and then its response, on one stream.
    PingPong,
    /// A stream that ends without a message either way.
    EmptyStream,
    /// Metadata, ASCII and binary, echoed before and after the messages.
    CustomMetadata,
    /// The status that the request asks for.
    StatusCodeAndMessage,
    /// The same with white space and Unicode in its message.
    SpecialStatusMessage,
    /// A method that the service has not.
    UnimplementedMethod,
    /// A service that the server has not.
    UnimplementedService,
    /// A call that is cancelled before its first message.
    CancelAfterBegin,
    /// A call that is cancelled after the first response.
    CancelAfterFirstResponse,
    /// A deadline of 1 ms, and a server that has nothing to say.
    TimeoutOnSleepingServer,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub case: String,
    /// Why it failed; `None` when it passed.
    pub failure: Option<String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u128,
}

impl Case {
    /// All of them, in the order in which they are run.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Its name, as gRPC's interop clients take it: `empty_unary`.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no case is hidden");
        value.get_name().to_owned()
    }

    /// Runs it, for 20 s at most.
    ///
    /// # Errors
    /// What was not as the case asserts.
    pub async fn run(self, channel: &Channel) -> Result<()> {
        let ended = timeout(BOUND, self.procedure(channel)).await;
        ended.with_context(|| format!("the case has not ended in {BOUND:?}"))?
    }

    /// Runs it and says what came of it.
    pub async fn judge(self, channel: &Channel) -> Verdict {
        let began = Instant::now();
        let outcome = self.run(channel).await;
        Verdict {
            case: self.name(),
            failure: outcome.err().map(|error| format!("{error:#}")),
            milliseconds: began.elapsed().as_millis(),
        }
    }

    async fn procedure(self, channel: &Channel) -> Result<()> {
        let client = Client::new(channel.clone());
        match self {
            Self::EmptyUnary => unary::empty(client).await,
            Self::LargeUnary => unary::large(client).await,
            Self::ClientCompressedUnary => compression::client_compressed(channel).await,
            Self::ServerCompressedUnary => compression::server_compressed(channel).await,
            Self::CompressedUnary => compression::both_ways(channel).await,
            Self::ClientStreaming => streaming::client_streaming(client).await,
            Self::ServerStreaming => streaming::server_streaming(client).await,
            Self::PingPong => streaming::ping_pong(client).await,
            Self::EmptyStream => streaming::empty(client).await,
            Self::CustomMetadata => metadata::custom(channel).await,
            Self::StatusCodeAndMessage => status::code_and_message(client).await,
            Self::SpecialStatusMessage => status::special_message(client).await,
            Self::UnimplementedMethod => status::unimplemented_method(channel).await,
            Self::UnimplementedService => status::unimplemented_service(channel).await,
            Self::CancelAfterBegin => cancellation::after_begin(channel, client).await,
            Self::CancelAfterFirstResponse => {
                cancellation::after_first_response(channel, client).await
            }
            Self::TimeoutOnSleepingServer => cancellation::timeout(client).await,
        }
    }
}
