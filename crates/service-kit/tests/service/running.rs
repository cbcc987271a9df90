//! A greeter served in this process, on a memory registry, and what its callers and operators see of it.

use std::{net::SocketAddr, time::Duration};

use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_client::GreeterClient,
    greeter_server::{self, GreeterServer},
};
use registry::{Registry, ServiceName, Status as InstanceStatus};
use service_kit::{
    Readiness, Service, ServiceConfig, Telemetry, admin,
    config::{AdminListen, Advertise},
};
use testkit::eventually;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tokio_stream::{Stream, pending};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// More than anything here takes on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A greeter for whom each name is an order.
#[derive(Debug, Clone)]
struct Greeter;

type Replies = Box<dyn Stream<Item = Result<HelloReply, Status>> + Send + Unpin>;

#[tonic::async_trait]
impl greeter_server::Greeter for Greeter {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        match request.into_inner().name.as_str() {
            "panic" => panic!("as ordered"),
            "never" => std::future::pending().await,
            name => Ok(Response::new(HelloReply {
                message: name.len().to_string(),
            })),
        }
    }

    type SayHelloStreamReplyStream = Replies;

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Replies>, Status> {
        Ok(Response::new(Box::new(pending())))
    }

    type SayHelloBidiStreamStream = Replies;

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        Err(Status::failed_precondition("nobody reads this"))
    }
}

/// A running service and the handles on it.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) registry: Registry,
    pub(crate) name: ServiceName,
    pub(crate) channel: Channel,
    pub(crate) readiness: Readiness,
    pub(crate) telemetry: Telemetry,
    pub(crate) admin: AdminListen,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

/// The defaults on a memory registry, with an admin page that can be found.
pub(crate) fn config() -> ServiceConfig {
    let mut config = ServiceConfig::named("greeter").expect("a name");
    "memory:".clone_into(&mut config.registry.url);
    config.server.drain_notice = Duration::from_millis(50);
    let port = testkit::Port::free().expect("a port").number();
    config.admin.listen = AdminListen::At(SocketAddr::from(([127, 0, 0, 1], port)));
    config
}

/// Starts a greeter; `prepare` is what user code does before it serves.
pub(crate) async fn start(config: ServiceConfig, prepare: impl FnOnce(&Readiness)) -> Running {
    let telemetry = Telemetry::metrics_only().expect("metrics");
    let (stop, stopped) = oneshot::channel::<()>();
    let asked = async { drop(stopped.await) };
    let service = Service::bind_until(&config, telemetry.clone(), asked)
        .await
        .expect("a free port");
    assert_eq!(config.server.advertise, Advertise::Auto);
    let address = service.address().to_string();
    let channel = Channel::from_shared(format!("http://{address}")).expect("a URI");
    let (registry, readiness) = (service.registry().clone(), service.readiness());
    prepare(&readiness);
    let serving = service.add_service(GreeterServer::new(Greeter)).serve();
    Running {
        address,
        registry,
        name: config.server.service,
        readiness,
        telemetry,
        admin: config.admin.listen,
        stop: Some(stop),
        task: tokio::spawn(serving),
        channel: channel.connect().await.expect("it listens"),
    }
}

impl Running {
    pub(crate) fn greeter(&self) -> GreeterClient<Channel> {
        GreeterClient::new(self.channel.clone())
    }

    /// What the registry says of it: nothing, or its status.
    pub(crate) async fn registered(&self) -> Option<InstanceStatus> {
        let snapshot = self.registry.list(&self.name).await.expect("a list");
        assert!(snapshot.len() <= 1, "{snapshot:?}");
        snapshot.instances().next().map(|instance| instance.status)
    }

    pub(crate) async fn until_registered_as(&self, status: InstanceStatus) {
        let what = format!("the status {status}");
        eventually(BOUND, &what, async || {
            self.registered().await == Some(status)
        })
        .await;
    }

    /// Whether the admin page says that it is ready, and why not.
    pub(crate) async fn ready(&self) -> Result<String, String> {
        admin::check(self.admin)
            .await
            .map_err(|error| format!("{error:#}"))
    }

    pub(crate) async fn until_not_ready(&self, part: &str) {
        eventually(BOUND, part, async || {
            self.ready().await.is_err_and(|why| why.contains(part))
        })
        .await;
    }

    pub(crate) fn ask_to_end(&mut self) {
        let stop = self.stop.take().expect("asked once");
        stop.send(()).expect("it runs");
    }

    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let ended = timeout(BOUND, &mut self.task)
            .await
            .expect("it ends within the bound");
        ended.expect("it does not panic")
    }
}
