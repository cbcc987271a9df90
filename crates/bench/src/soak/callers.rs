//! Callers that make calls of all kinds, and give up some of them.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Result, ensure};
use balance::Channel;
use futures_util::{TryFutureExt, future::BoxFuture};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Status, body::Body, codegen::Service};

use crate::{
    echo::ANSWERS,
    table::{Table, grouped},
};

/// One of so many calls is given up by its caller.
const ABANDONED: u32 = 50;
const LARGE: usize = 1 << 20;
const MESSAGES: u32 = 100;

/// What calls have come to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    small: AtomicU64,
    large: AtomicU64,
    streams: AtomicU64,
    abandoned: AtomicU64,
    /// Calls whose request had been answered by nobody yet: a retry would have done.
    failed: AtomicU64,
    /// Large calls and streams that ended with their server after the response had begun: no retry may follow.
    cut_off: AtomicU64,
    slowest_micros: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

impl Callers {
    pub(super) fn start(channel: &Channel, callers: u32) -> Self {
        let (stop, counts) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let has_begun = Arc::default();
            let noting = Noting {
                channel: channel.clone(),
                has_begun: Arc::clone(&has_begun),
            };
            let caller = Caller {
                client: GreeterClient::new(noting).max_decoding_message_size(2 * LARGE),
                has_begun,
                stop: Arc::clone(&stop),
                counts: Arc::clone(&counts),
            };
            tasks.spawn(caller.run());
        }
        Self {
            stop,
            counts,
            tasks,
        }
    }

    /// Calls that were made so far.
    pub(super) fn made(&self) -> u64 {
        self.counts.made()
    }

    /// Lets each caller end the call that it has.
    pub(super) async fn stop(mut self) -> Result<Arc<Counts>> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(self.counts)
    }
}

impl Counts {
    fn made(&self) -> u64 {
        let all = [&self.small, &self.large, &self.streams, &self.abandoned];
        all.into_iter().map(count).sum()
    }

    /// Fails where calls have failed that should not have, though servers have gone so often. Each time one or two calls may be in
    /// the middle of their response; more are more than servers have cut off.
    pub(super) fn verdict(&self, gone: u32) -> Result<()> {
        let (failed, cut_off) = (count(&self.failed), count(&self.cut_off));
        ensure!(
            failed == 0,
            "{failed} calls failed that another server could have answered"
        );
        ensure!(
            cut_off <= u64::from(gone),
            "{cut_off} calls were cut off in mid-response, though servers have gone {gone} times"
        );
        Ok(())
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["calls", "count"]);
        let rows = [
            ("small", &self.small),
            ("large: 1 MiB each way", &self.large),
            ("streams: 100 messages each or either way", &self.streams),
            ("given up by their callers", &self.abandoned),
            ("cut off with their servers in mid-response", &self.cut_off),
            ("failed", &self.failed),
            ("the slowest, in microseconds", &self.slowest_micros),
        ];
        for (what, counter) in rows {
            table.row([what.to_owned(), grouped(count(counter) as f64)]);
        }
        write!(f, "{table}")
    }
}

struct Caller {
    client: GreeterClient<Noting>,
    /// Whether a server has begun to answer the call that is under way.
    has_begun: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

impl Caller {
    async fn run(mut self) {
        let mut to_abandon = 0;
        while !self.stop.load(Ordering::Relaxed) {
            to_abandon += u32::from(fastrand::u32(..ABANDONED) == 0);
            if to_abandon == 0 {
                self.call().await;
                continue;
            }
            let patience = Duration::from_micros(fastrand::u64(..3_000));
            // Whoever is faster is counted as what it is, and another is given up in its place.
            if timeout(patience, self.call()).await.is_err() {
                self.counts.abandoned.fetch_add(1, Ordering::Relaxed);
                to_abandon -= 1;
            }
        }
    }

    async fn call(&mut self) {
        self.has_begun.store(false, Ordering::Relaxed);
        let counts = Arc::clone(&self.counts);
        let began = Instant::now();
        let (kind, whole, ended) = match fastrand::u32(..100) {
            0..4 => (&counts.large, false, self.unary(&"x".repeat(LARGE)).await),
            4..8 => (&counts.streams, false, self.server_stream().await),
            8..12 => (&counts.streams, false, self.bidi_stream().await),
            _ => (&counts.small, true, self.unary("world").await),
        };
        kind.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counts.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        match ended {
            Ok(()) => {}
            // A server that is killed may have written the head of an answer and no more of it. What is not kept until it is whole
            // is committed to that.
            Err(status)
                if !whole
                    && status.code() == Code::Unavailable
                    && self.has_begun.load(Ordering::Relaxed) =>
            {
                counts.cut_off.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                eprintln!("a call failed: {status}");
            }
        }
    }

    async fn unary(&mut self, name: &str) -> Result<(), Status> {
        self.client.say_hello(hello(name)).await.map(drop)
    }

    async fn server_stream(&mut self) -> Result<(), Status> {
        let mut request = Request::new(hello("world"));
        request.metadata_mut().insert(ANSWERS, MESSAGES.into());
        let response = self.client.say_hello_stream_reply(request).await?;
        read(response.into_inner()).await
    }

    async fn bidi_stream(&mut self) -> Result<(), Status> {
        let messages = tokio_stream::iter((0..MESSAGES).map(|_| hello("world")));
        let response = self.client.say_hello_bidi_stream(messages).await?;
        read(response.into_inner()).await
    }
}

async fn read(mut answers: tonic::Streaming<proto::helloworld::HelloReply>) -> Result<(), Status> {
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A channel that notes when a server has begun to answer, unless all of its answer is a status.
#[derive(Clone)]
struct Noting {
    channel: Channel,
    has_begun: Arc<AtomicBool>,
}

impl Service<http::Request<Body>> for Noting {
    type Response = <Channel as Service<http::Request<Body>>>::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.channel, task)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answering = self.channel.call(request);
        let has_begun = Arc::clone(&self.has_begun);
        Box::pin(answering.inspect_ok(move |response| {
            let is_a_status = response.headers().contains_key(Status::GRPC_STATUS);
            has_begun.store(!is_a_status, Ordering::Relaxed);
        }))
    }
}

fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.into() }
}
