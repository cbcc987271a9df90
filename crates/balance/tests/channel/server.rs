//! A real greeter on a real socket, whose ways the name it is asked to greet decides.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use registry::Address;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport};
use tonic_health::server::HealthReporter;

pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) seen: Arc<Seen>,
    /// What its health service says.
    pub(crate) health: HealthReporter,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What the server's handlers have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: AtomicUsize,
    /// Handlers that run now.
    pub(crate) running: AtomicUsize,
    /// The last `grpc-previous-rpc-attempts`.
    pub(crate) previous_attempts: AtomicUsize,
    /// All that the last call said.
    pub(crate) metadata: Mutex<MetadataMap>,
    /// The last `grpc-timeout`.
    pub(crate) timeout: Mutex<String>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(listen: &str) -> Self {
        let listener = TcpListener::bind(listen).await.expect("a free port");
        let address = Address::from(listener.local_addr().expect("bound"));
        let seen = Arc::new(Seen::default());
        let handler = Handler {
            address: address.clone(),
            seen: Arc::clone(&seen),
        };
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let service = GreeterServer::new(handler)
            .max_decoding_message_size(128 << 20)
            .max_encoding_message_size(128 << 20);
        let (health, checks) = tonic_health::server::health_reporter();
        let task = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let server = transport::Server::builder()
                .add_service(service)
                .add_service(checks);
            server
                .serve_with_incoming_shutdown(incoming, stopping.cancelled_owned())
                .await
                .expect("serves");
        });
        Self {
            address,
            seen,
            health,
            stop,
            task,
        }
    }

    /// Says GOAWAY and finishes what is in flight, as a server does on SIGTERM.
    pub(crate) fn shut_down(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn ended(self) {
        self.task.await.expect("ends well");
    }
}

struct Handler {
    address: Address,
    seen: Arc<Seen>,
}

impl Handler {
    fn reply(&self, name: &str) -> HelloReply {
        HelloReply {
            message: format!("Hello {name} from {}", self.address),
        }
    }
}

/// Counts a handler as running for as long as it is held.
struct Running(Arc<Seen>);

impl Running {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn number(request: &Request<HelloRequest>, header: &str) -> usize {
    let text = request
        .metadata()
        .get(header)
        .and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[tonic::async_trait]
impl Greeter for Handler {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let _running = Running::new(&self.seen);
        let call = self.seen.calls.fetch_add(1, Ordering::SeqCst);
        self.seen.previous_attempts.store(
            number(&request, "grpc-previous-rpc-attempts"),
            Ordering::SeqCst,
        );
        let metadata = request.metadata().clone();
        *self.seen.metadata.lock().expect("no panic holds it") = metadata;
        let timeout = request
            .metadata()
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok());
        timeout
            .unwrap_or_default()
            .clone_into(&mut self.seen.timeout.lock().expect("no panic holds it"));
        match request.get_ref().name.as_str() {
            "forever" => std::future::pending().await,
            "never" => Err(Status::failed_precondition("50 % of “never”")),
            "third time" if call < 2 => Err(Status::unavailable("not yet")),
            "large" => Ok(Response::new(HelloReply {
                message: "x".repeat(64 << 20),
            })),
            name => Ok(Response::new(self.reply(name))),
        }
    }

    type SayHelloStreamReplyStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    /// `ticks`: one reply each millisecond for ever; `flood`: as many as are taken; else five.
    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        let running = Running::new(&self.seen);
        let name = request.into_inner().name;
        let reply = self.reply(&name);
        let pause = Duration::from_millis(u64::from(name == "ticks"));
        let most = if name == "ticks" || name == "flood" {
            usize::MAX
        } else {
            5
        };
        let replies = tokio_stream::iter(0..most).then(move |_| {
            let reply = reply.clone();
            let _running = &running;
            async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                Ok(reply)
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    type SayHelloBidiStreamStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::SayHelloBidiStreamStream>, Status> {
        let running = Running::new(&self.seen);
        let address = self.address.clone();
        let replies = request.into_inner().map(move |request| {
            let _running = &running;
            Ok(HelloReply {
                message: format!("Hello {} from {address}", request?.name),
            })
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
