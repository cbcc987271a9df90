//! gRPC's interoperability cases through the channel, against tonic's server.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use balance::Channel;
use http::{Request, Response};
use interop::{
    Case,
    server::{Served, TestService, serve},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, body::Body, server::NamedService, transport};
use tower::Service;

const BOUND: Duration = Duration::from_secs(20);

/// Servers that end with the test.
#[derive(Default)]
struct Servers {
    addresses: Vec<String>,
    served: Vec<Arc<Served>>,
    tasks: JoinSet<()>,
}

impl Servers {
    async fn start(count: usize) -> Self {
        let mut servers = Self::default();
        for _ in 0..count {
            let listener = servers.listen().await;
            let service = TestService::default();
            servers.served.push(service.served());
            servers
                .tasks
                .spawn(async { serve(listener, service).await.expect("it serves") });
        }
        servers
    }

    async fn listen(&mut self) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        self.addresses.push(address.to_string());
        listener
    }

    fn channel(&self) -> Channel {
        Channel::builder(format!("static:///{}", self.addresses.join(",")))
            .policy("round_robin")
            .build()
            .expect("the target is one")
    }
}

/// Runs every case and returns the names of those that passed, and what became of the others.
async fn run_all(channel: &Channel) -> (Vec<String>, Vec<(String, String)>) {
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for case in Case::all() {
        let verdict = case.judge(channel).await;
        match verdict.failure {
            None => passed.push(verdict.case),
            Some(failure) => failed.push((verdict.case, failure)),
        }
    }
    (passed, failed)
}

#[tokio::test]
async fn every_case_passes_against_a_tonic_server() {
    let servers = Servers::start(1).await;
    let (_, failed) = run_all(&servers.channel()).await;
    assert_eq!(failed, []);
}

#[tokio::test]
async fn every_case_passes_over_two_servers_in_turn() {
    let servers = Servers::start(2).await;
    let channel = servers.channel();
    let (_, failed) = run_all(&channel).await;
    assert_eq!(failed, []);
    for served in &servers.served {
        assert!(served.calls() > Case::all().len() / 2, "{served:?}");
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_on_its_server() {
    let servers = Servers::start(1).await;
    let channel = servers.channel();
    for case in [Case::CancelAfterBegin, Case::CancelAfterFirstResponse] {
        case.run(&channel).await.expect("it passes");
    }
    let served = &servers.served[0];
    testkit::eventually(BOUND, "both to be cancelled", async || {
        served.cancelled() == 2
    })
    .await;
}

/// A server to which no case is of interest: it says OK to whatever it is asked, and nothing else.
#[derive(Clone)]
struct Indifferent;

impl NamedService for Indifferent {
    const NAME: &'static str = "grpc.testing.TestService";
}

impl Service<Request<Body>> for Indifferent {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        ready(Ok(Status::ok("").into_http()))
    }
}

#[tokio::test]
async fn a_server_that_says_ok_to_everything_passes_no_case_that_asserts_more() {
    let mut servers = Servers::default();
    let incoming = TcpListenerStream::new(servers.listen().await);
    servers.tasks.spawn(async {
        let server = transport::Server::builder().add_service(Indifferent);
        server.serve_with_incoming(incoming).await.expect("serves");
    });
    let (passed, _) = run_all(&servers.channel()).await;
    assert_eq!(passed, ["empty_stream", "unimplemented_service"]);
}
