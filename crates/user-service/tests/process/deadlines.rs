//! For how long a caller of `GreetUser` waits, and what the greeter is told of it.

use std::time::Duration;

use proto::{
    helloworld::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
    user::v1::GreetUserRequest,
};
use registry::{Address, Instance, Registration, RegistrationState, ServiceName};
use testkit::Signal;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codegen::BoxStream,
    transport::{Server, server::TcpIncoming},
};

use crate::running::{BOUND, Scene, bounded};

const TTL: Duration = Duration::from_secs(10);

/// More than is lost where a time is written in microseconds.
const ROUNDED: Duration = Duration::from_millis(1);

/// A greeter that answers with the time, in microseconds, that it is told it has.
struct Timed;

#[tonic::async_trait]
impl Greeter for Timed {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let told = balance::timeout_of(request.metadata().as_ref())
            .ok_or_else(|| Status::failed_precondition("no grpc-timeout"))?;
        Ok(Response::new(HelloReply {
            message: told.as_micros().to_string(),
        }))
    }

    type SayHelloStreamReplyStream = BoxStream<HelloReply>;

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        Err(Status::unimplemented("it answers once"))
    }

    type SayHelloBidiStreamStream = BoxStream<HelloReply>;

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::SayHelloBidiStreamStream>, Status> {
        Err(Status::unimplemented("it answers once"))
    }
}

/// Has it serve, as the greeter of a scene, until what is returned is dropped.
async fn serve(scene: &Scene) -> (JoinSet<()>, Registration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = Address::from(listener.local_addr().expect("bound"));
    let server = Server::builder().add_service(GreeterServer::new(Timed));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let ended = server.serve_with_incoming(TcpIncoming::from(listener));
        ended.await.expect("it serves until it is dropped");
    });
    let greeter = ServiceName::new("greeter").expect("a name");
    let registration = scene
        .registry
        .register(Instance::new(greeter, address), TTL);
    let mut states = registration.states();
    let held = states.wait_for(RegistrationState::is_held);
    held.await.expect("the registration lives");
    (serving, registration)
}

#[tokio::test]
async fn a_greeter_is_told_what_is_left_of_the_callers_deadline_or_of_the_usual_time() {
    let scene = Scene::new();
    let _greeter = serve(&scene).await;
    let usual = Duration::from_secs(25);
    let setting = [("DISCOVERY__GREETER__TIMEOUT", "25s")];
    let _service = scene.user_service_with("", &setting).await;
    scene.create("ann", "").await.expect("created");
    for timeout in [Some(BOUND), None, Some(Duration::from_secs(20))] {
        let mut request = Request::new(GreetUserRequest {
            name: "users/ann".to_owned(),
        });
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let asked = Instant::now();
        let told = scene.users.clone().greet_user(request).await;
        let told = told.expect("greeted").into_inner().message;
        let told = Duration::from_micros(told.parse().expect("microseconds"));
        let most = timeout.unwrap_or(usual);
        let least = most.saturating_sub(asked.elapsed() + ROUNDED);
        assert!((least..=most).contains(&told), "{told:?} of {timeout:?}");
    }
}

#[tokio::test]
async fn a_greeter_that_hangs_keeps_no_caller_past_its_deadline() {
    let scene = Scene::new();
    let (_service, greeter) = tokio::join!(scene.user_service(""), scene.greeter());
    scene.create("ann", "").await.expect("created");
    scene.greet("ann").await.expect("greeted");
    greeter.signal(Signal::SIGSTOP).expect("it runs");
    let mut request = bounded(GreetUserRequest {
        name: "users/ann".to_owned(),
    });
    request.set_timeout(Duration::from_millis(700));
    let began = Instant::now();
    let late = scene
        .users
        .clone()
        .greet_user(request)
        .await
        .expect_err("it hangs");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}
