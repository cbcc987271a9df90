//! One trace of a call through three processes.

use std::time::Duration;

use registry::{Address, Instance, ServiceName};
use testkit::{
    Unable, eventually,
    otlp::{Received, drawn, hex},
};

use crate::{running::BOUND, telling::Telling};

const TTL: Duration = Duration::from_secs(10);

/// What a person would draw of a greeting that was tried twice.
fn as_expected(user: &str, unable: &str, able: &str) -> [String; 7] {
    let (greet_user, say_hello) = (
        "user.v1.UserService/GreetUser",
        "helloworld.Greeter/SayHello",
    );
    [
        format!("admin CLIENT {greet_user} OK"),
        format!("  admin INTERNAL Attempt.{greet_user} OK by {user} (round_robin)"),
        format!("    user-service SERVER {greet_user} OK"),
        format!("      user-service CLIENT {say_hello} OK"),
        format!(
            "        user-service INTERNAL Attempt.{say_hello} UNAVAILABLE by {unable} (round_robin)"
        ),
        format!("        user-service INTERNAL Attempt.{say_hello} OK by {able} (round_robin)"),
        format!("          greeter-server SERVER {say_hello} OK"),
    ]
}

/// The address of the only instance of that service that is not at `other`.
async fn address_of(telling: &Telling, service: &str, other: &str) -> String {
    let name = ServiceName::new(service).expect("a name");
    let snapshot = telling.scene.registry.list(&name).await.expect("a list");
    let addresses = snapshot.instances().map(|i| i.address().to_string());
    let mut addresses: Vec<_> = addresses.filter(|address| address != other).collect();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    addresses.remove(0)
}

#[tokio::test]
async fn one_trace_goes_from_the_client_through_the_user_service_to_the_greeter_that_answered() {
    let telling = Telling::begin("info,tower_http=debug").await;
    let scene = &telling.scene;
    let unable = Unable::start().await.expect("a server");
    let unable = unable.address();
    let greeter_name = ServiceName::new("greeter").expect("a name");
    let address: Address = unable.parse().expect("an address");
    let _registration = scene
        .registry
        .register(Instance::new(greeter_name, address), TTL);
    let greeter = telling.greeter().await;
    let service = telling.user_service().await;
    scene.create("ann", "").await.expect("created");

    let user = address_of(&telling, "user", "").await;
    let able = address_of(&telling, "greeter", unable).await;
    let expected = as_expected(&user, unable, &able);
    // In turns: of two greetings one goes to who cannot, and then to who can.
    let mut found = None;
    eventually(2 * BOUND, "a greeting with a retry", async || {
        telling.admin(&["greet", "ann"], "").await;
        let traces = telling.collector.traces();
        found = traces.into_iter().find(|trace| drawn(trace) == expected);
        found.is_some()
    })
    .await;
    let trace = found.expect("it was there");
    let numbers = [&trace[4], &trace[5]].map(|r| r.attribute("balance.attempt"));
    assert_eq!(numbers, ["1", "2"].map(|n| Some(n.to_owned())));

    // What each process has logged of the call is found by the trace.
    let is_told_by = |received: &Received| {
        let [trace, span] = [&received.span.trace_id, &received.span.span_id].map(|id| hex(id));
        format!(r#""trace_id":"{trace}","span_id":"{span}""#)
    };
    for (process, served) in [(&service.process, &trace[2]), (&greeter, &trace[6])] {
        let told = is_told_by(served);
        let line = process.wait_for_line(&told, BOUND).await;
        let line = line.expect("a line of the call");
        assert!(line.contains("processing request"), "{line}");
    }
}
