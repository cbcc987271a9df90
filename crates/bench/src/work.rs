//! What a client does over a channel, while it is measured.

use std::time::Duration;

use anyhow::{Result, ensure};
use balance::{TellServedBy, WaitForReady};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use proto::helloworld::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, Streaming};

use crate::{echo::ANSWERS, peers::Measured};

/// A kind of work. Its unit is a call, or a message of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Small unary calls.
    Unary,
    /// The same, with the time that each of them takes.
    Timed,
    /// Unary calls as greeter-client makes them: each has a deadline and a retry policy, would wait for an instance, and is told who
    /// answered.
    Greeting,
    /// Unary calls with 1 MiB each way.
    Large,
    /// Small messages to the server, on one stream, and one answer.
    ClientStream,
    /// Small messages from the server, on one stream.
    ServerStream,
    /// Small messages to the server, on one stream, and an answer to each.
    BidiStream,
}

/// How many messages a stream has at most; more of them are more streams, one after another.
pub(crate) const STREAM: u32 = 100_000;

/// The deadline of a [greeting](Work::Greeting): none is to miss it, also where valgrind counts.
const GREETED_WITHIN: Duration = Duration::from_secs(30);

/// How long calls took, in microseconds.
pub(crate) type Latencies = Histogram<u32>;

impl Work {
    /// Does `count` units of it; calls are made by as many tasks as `callers`, each with one under way.
    pub(crate) async fn run(
        self,
        channel: &impl Measured,
        callers: u32,
        count: u32,
    ) -> Result<Latencies> {
        match self {
            Self::Unary => calls::<false>(channel, callers, count, small).await,
            Self::Timed => calls::<true>(channel, callers, count, small).await,
            Self::Greeting => calls::<false>(channel, callers, count, greeting).await,
            Self::Large => {
                let large = hello(&"x".repeat(1 << 20));
                let large = move || Request::new(large.clone());
                calls::<false>(channel, callers, count, large).await
            }
            Self::ClientStream | Self::ServerStream | Self::BidiStream => {
                self.streams(channel, count).await?;
                Ok(no_latencies())
            }
        }
    }

    /// What its callers go by, where nobody asks for something else.
    pub(crate) fn service_config(self) -> Option<String> {
        let greeter = || greeter_client::default_service_config("helloworld.Greeter");
        (self == Self::Greeting).then(greeter)
    }

    async fn streams(self, channel: &impl Measured, messages: u32) -> Result<()> {
        let mut left = messages;
        while left > 0 {
            let count = left.min(STREAM);
            match self {
                Self::ClientStream => client_stream(channel, count).await?,
                Self::ServerStream => server_stream(channel, count).await?,
                _ => bidi_stream(channel, count).await?,
            }
            left -= count;
        }
        Ok(())
    }
}

fn no_latencies() -> Latencies {
    Histogram::new(3).expect("three digits can be kept")
}

fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.into() }
}

fn small() -> Request<HelloRequest> {
    Request::new(hello("world"))
}

fn greeting() -> Request<HelloRequest> {
    let mut request = small();
    request.set_timeout(GREETED_WITHIN);
    request.extensions_mut().insert(WaitForReady(true));
    request.extensions_mut().insert(TellServedBy);
    request
}

/// `TIMED` at compile time: reading the clock would be part of what a call costs.
async fn calls<const TIMED: bool>(
    channel: &impl Measured,
    callers: u32,
    count: u32,
    request: impl Fn() -> Request<HelloRequest> + Clone + Send + 'static,
) -> Result<Latencies> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let mut client = GreeterClient::new(channel.clone());
        let request = request.clone();
        tasks.spawn(async move {
            let mut latencies = no_latencies();
            for _ in 0..count / callers {
                let started = TIMED.then(Instant::now);
                client.say_hello(request()).await?;
                if let Some(started) = started {
                    latencies.record(u64::try_from(started.elapsed().as_micros())?)?;
                }
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = no_latencies();
    while let Some(done) = tasks.join_next().await {
        all.add(done??)?;
    }
    Ok(all)
}

async fn client_stream(channel: &impl Measured, count: u32) -> Result<()> {
    let mut request = Request::new(messages(count));
    request.metadata_mut().insert(ANSWERS, 1.into());
    let mut client = GreeterClient::new(channel.clone());
    let mut answers = client.say_hello_bidi_stream(request).await?.into_inner();
    let answer = answers.message().await?.unwrap_or_default().message;
    ensure!(
        answer == count.to_string(),
        "{answer} of {count} messages arrived"
    );
    ensure!(answers.message().await?.is_none(), "more than one answer");
    Ok(())
}

async fn server_stream(channel: &impl Measured, count: u32) -> Result<()> {
    let mut request = Request::new(hello("world"));
    request.metadata_mut().insert(ANSWERS, count.into());
    let mut client = GreeterClient::new(channel.clone());
    let answers = client.say_hello_stream_reply(request).await?;
    all_arrive(answers.into_inner(), count).await
}

async fn bidi_stream(channel: &impl Measured, count: u32) -> Result<()> {
    let mut client = GreeterClient::new(channel.clone());
    let answers = client.say_hello_bidi_stream(messages(count)).await?;
    all_arrive(answers.into_inner(), count).await
}

fn messages(count: u32) -> impl tokio_stream::Stream<Item = HelloRequest> + Send + 'static {
    tokio_stream::iter((0..count).map(|_| hello("world")))
}

async fn all_arrive(mut answers: Streaming<HelloReply>, count: u32) -> Result<()> {
    let mut arrived = 0;
    while answers.message().await?.is_some() {
        arrived += 1;
    }
    ensure!(arrived == count, "{arrived} of {count} messages arrived");
    Ok(())
}
