//! Traces: through the processes that a call goes through, with its retries.

use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use testkit::{
    Port, eventually,
    otlp::{Collector, drawn, hex},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::Pending;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use crate::scene::{BOUND, counted, fleet, page, page_of_the_next};

/// A greeter that cannot.
#[derive(Debug)]
struct Unable;

#[tonic::async_trait]
impl Greeter for Unable {
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unavailable("not now"))
    }

    type SayHelloStreamReplyStream = Pending<Result<HelloReply, Status>>;

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        Err(Status::unavailable("not now"))
    }

    type SayHelloBidiStreamStream = Pending<Result<HelloReply, Status>>;

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::SayHelloBidiStreamStream>, Status> {
        Err(Status::unavailable("not now"))
    }
}

/// Where it listens, for as long as the other lives.
async fn unable() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = Server::builder().add_service(GreeterServer::new(Unable));
    let mut serving = JoinSet::new();
    serving.spawn(async {
        let ended = server.serve_with_incoming(TcpIncoming::from(listener));
        ended.await.expect("it serves until it is dropped");
    });
    (address, serving)
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_to_the_greeter_that_answered_with_its_retry() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    fleet.set_env("DISCOVERY__LOG__LEVEL", "info,tower_http=debug");
    let able = fleet.add().await.expect("a greeter");
    let (unable, _serving) = unable().await;

    // In turns: every other call goes to who cannot, and then to who can.
    let target = format!("static:///{unable},{able}");
    let client = fleet
        .client(&["--target", &target, "--forever", "--interval", "20ms"])
        .expect("a client");
    let retried = || {
        collector
            .traces()
            .into_iter()
            .find(|trace| trace.len() == 4)
    };
    eventually(BOUND, "a call with a retry", async || retried().is_some()).await;
    client.interrupt().expect("it runs");
    let (status, _) = client.end(BOUND).await.expect("it ends");
    assert!(status.success());

    let trace = retried().expect("it was there");
    let method = "helloworld.Greeter/SayHello";
    assert_eq!(
        drawn(&trace),
        [
            format!("greeter-client CLIENT {method} OK"),
            format!(
                "  greeter-client INTERNAL Attempt.{method} UNAVAILABLE by {unable} (round_robin)"
            ),
            format!("  greeter-client INTERNAL Attempt.{method} OK by {able} (round_robin)"),
            format!("    greeter-server SERVER {method} OK"),
        ],
        "{trace:#?}"
    );
    for (name, value) in [("server.address", "127.0.0.1"), ("rpc.method", method)] {
        assert_eq!(trace[3].attribute(name).as_deref(), Some(value));
    }
    let served = &trace[3].span;
    // What the greeter has logged of the call tells to which trace it belongs.
    let (trace, span) = (hex(&served.trace_id), hex(&served.span_id));
    let ids = format!("trace_id={trace} span_id={span}");
    let greeter = fleet.servers()[0].process();
    let line = greeter.wait_for_line(&ids, BOUND).await.expect("a line");
    assert!(line.contains("processing request"), "{line}");
}

#[tokio::test]
async fn what_is_left_is_handed_over_at_the_end() {
    let collector = Collector::start().await.expect("a collector");
    let (mut fleet, _directory) = fleet(collector.endpoint());
    // Later than anything here takes.
    fleet.set_env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let address = fleet.add().await.expect("a greeter");
    let client = fleet
        .client(&["--count", "10", "--output", "json"])
        .expect("a client");
    let figures = client.figures(BOUND).await.expect("figures");
    assert_eq!((figures.calls, figures.failures), (10, 0));
    let of = |service: &str| {
        let spans = collector.spans();
        spans.iter().filter(|r| r.service == service).count()
    };
    assert_eq!((of("greeter-client"), of("greeter-server")), (20, 0));
    fleet.stop(&address).await.expect("it drains and ends");
    assert_eq!(of("greeter-server"), 10);
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_costs_no_call_and_its_loss_is_counted() {
    let down = Port::free().expect("a port");
    // Takes connections, and never says a word.
    let hangs = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hanging = hangs.local_addr().expect("bound").to_string();
    for collector in [down.address(), hanging] {
        let (mut fleet, _directory) = fleet(&format!("http://{collector}"));
        fleet.set_env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        let admin = page_of_the_next(&mut fleet);
        let address = fleet.add().await.expect("a greeter");
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
        let client = fleet
            .client(&["--count", "500", "--output", "json"])
            .expect("a client");
        let figures = client.figures(BOUND).await.expect("figures");
        assert_eq!((figures.calls, figures.failures), (500, 0), "{collector}");

        let both = ["telemetry_spans_total", "telemetry_metric_pushes_total"];
        eventually(BOUND, "spans and metrics that are lost", async || {
            let page = page(&admin).await;
            both.iter().all(|name| counted(&page, name, "failed") > 1)
        })
        .await;
        let greeter = fleet.servers()[0].process();
        for what in ["spans", "metrics"] {
            let warned = format!("the collector takes no {what}");
            greeter.wait_for_line(&warned, BOUND).await.expect("a word");
            let lines = greeter.output();
            let said = lines.iter().filter(|line| line.text.contains(&warned));
            assert_eq!(said.count(), 1, "it is said once");
        }
        // It ends in time, whatever the collector does.
        fleet.stop(&address).await.expect("it ends well");
    }
}
