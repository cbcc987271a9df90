//! What a start says, and what is there after it.

use std::{fs, path::Path, process::Command};

use registry::{ServiceName, Status};
use testkit::{
    Port,
    etcd::{Cluster, ClusterOptions},
    eventually,
    process::Process,
};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::running::{BOUND, command, greeters, hello, registry_of, runtime, spawn, start};

#[tokio::test]
async fn the_first_line_says_where_it_listens_and_what_it_registers_where() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let message = server.first["message"].as_str().expect("a message");
    assert_eq!(message, format!("listening on {}", server.address));
    assert!(server.address.starts_with("127.0.0.1:") && !server.address.ends_with(":0"));
    assert_eq!(server.first["service"], "greeter");
    let registry = format!("file://{}/discovery", runtime.path().display());
    assert_eq!(server.first["registry"], registry);
    server.greets("world").await;
}

#[tokio::test]
async fn two_servers_run_side_by_side_without_configuration() {
    let runtime = runtime();
    let (one, two) = (start(&runtime, &[]).await, start(&runtime, &[]).await);
    let mut expected = [one.address.clone(), two.address.clone()];
    expected.sort();
    let registry = registry_of(&runtime);
    eventually(BOUND, "both greeters", async || {
        let mut found: Vec<_> = greeters(&registry)
            .await
            .into_iter()
            .map(|(at, _)| at)
            .collect();
        found.sort();
        found == expected
    })
    .await;
    one.greets("one").await;
    two.greets("two").await;
}

#[tokio::test]
async fn a_server_registers_the_zone_of_its_environment_and_none_when_that_is_empty() {
    // Kubernetes sets it from a label of the pod, and where there is none leaves it empty.
    for (zone, expected) in [("eu-west-1b", Some("eu-west-1b")), ("", None)] {
        let runtime = runtime();
        let mut command = command(runtime.path(), &[]);
        command.env("DISCOVERY__SERVER__ZONE", zone);
        let server = spawn(command).await;
        let registry = registry_of(&runtime);
        eventually(BOUND, "the greeter", async || {
            greeters(&registry).await == [(server.address.clone(), Status::Serving)]
        })
        .await;
        let name = ServiceName::new("greeter").expect("a name");
        let list = registry.list(&name).await.expect("a list");
        let zones: Vec<_> = list
            .instances()
            .map(|instance| instance.zone.as_ref().map(ToString::to_string))
            .collect();
        assert_eq!(zones, [expected.map(str::to_owned)]);
    }
}

#[tokio::test]
async fn a_server_takes_all_the_open_files_that_it_may_have() {
    let runtime = runtime();
    let server = command(runtime.path(), &[]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -S -n 256; exec \"$@\"", "sh"])
        .arg(server.get_program())
        .env("XDG_RUNTIME_DIR", runtime.path());
    let server = spawn(shell).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process.pid()));
    let limits = limits.expect("it runs");
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = open_files.expect("the limit").split_whitespace().collect();
    let [.., soft, hard, "files"] = numbers[..] else {
        panic!("{numbers:?}");
    };
    assert_ne!(
        hard, "256",
        "a limit that can be told from the one it was given"
    );
    assert_eq!(soft, hard);
}

#[tokio::test]
async fn what_is_advertised_is_what_greetings_name() {
    let runtime = runtime();
    let port = Port::free().expect("a port");
    let listen = format!("0.0.0.0:{port}");
    let server = start(&runtime, &["--listen", &listen, "--advertise", "localhost"]).await;
    assert_eq!(server.address, format!("localhost:{port}"));
    server.greets("world").await;
}

#[tokio::test]
async fn streams_of_greetings_are_served() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let expected = |name: &str| format!("Hello {name} from {}", server.address);

    let replies = server
        .greeter()
        .say_hello_stream_reply(hello("world"))
        .await;
    let replies: Vec<_> = replies.expect("a stream").into_inner().collect().await;
    assert_eq!(replies.len(), 5);
    for reply in replies {
        assert_eq!(reply.expect("a greeting").message, expected("world"));
    }

    let names = tokio_stream::iter(["one", "two"].map(hello));
    let replies = server.greeter().say_hello_bidi_stream(names).await;
    let replies: Vec<_> = replies.expect("a stream").into_inner().collect().await;
    let messages: Vec<_> = replies
        .into_iter()
        .map(|r| r.expect("a greeting").message)
        .collect();
    assert_eq!(messages, ["one", "two"].map(expected));
}

#[tokio::test]
async fn health_is_served_for_the_server_and_for_the_service() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let mut client = HealthClient::new(server.channel.clone());
    for service in ["", "helloworld.Greeter"] {
        eventually(BOUND, "SERVING", async || {
            let service = service.to_owned();
            let answer = client.check(HealthCheckRequest { service }).await;
            answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
        })
        .await;
    }
    let service = "nobody".to_owned();
    let refused = client.check(HealthCheckRequest { service }).await;
    assert_eq!(
        refused.expect_err("an unknown service").code(),
        Code::NotFound
    );
}

macro_rules! reflected {
    ($version:ident, $server:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new($server.channel.clone());
        let answers = client
            .server_reflection_info(tokio_stream::once(request))
            .await;
        let answer = answers.expect("a stream").into_inner().message().await;
        match answer.expect("an answer").expect("one").message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list
                .service
                .into_iter()
                .map(|service| service.name)
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    }};
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services_that_are_served() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    for services in [reflected!(v1, server), reflected!(v1alpha, server)] {
        for name in ["helloworld.Greeter", "grpc.health.v1.Health"] {
            assert!(
                services.iter().any(|service| service == name),
                "{services:?}"
            );
        }
        // What the descriptors describe besides is not served here.
        assert!(
            !services.iter().any(|name| name.starts_with("user.")),
            "{services:?}"
        );
    }
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_tried_again_while_the_server_serves() {
    let port = Port::free().expect("a port");
    let url = format!("etcd://127.0.0.1:{port}/shop");
    let runtime = runtime();
    let server = start(&runtime, &["--registry", &url]).await;
    server
        .process
        .wait_for_line("cannot register yet", BOUND)
        .await
        .expect("a warning");
    server.greets("world").await;
    let readiness = server.admin_page("/readyz").await;
    assert!(
        readiness.contains("503") && readiness.contains("not registered"),
        "{readiness}"
    );

    let options = ClusterOptions {
        client_ports: vec![port.number()],
        ..ClusterOptions::default()
    };
    let _etcd = Cluster::start_with(options).await.expect("an etcd");
    let registry = registry::connect(&url).expect("a registry");
    eventually(BOUND, "the greeter in etcd", async || {
        greeters(&registry).await == [(server.address.clone(), Status::Serving)]
    })
    .await;
}

/// What `--health-check` of that admin port exits with, and says.
async fn health_check(runtime: &Path, admin: &str) -> (Option<i32>, String) {
    let mut command = command(runtime, &["--health-check"]);
    command.env("DISCOVERY__ADMIN__LISTEN", admin);
    let check = Process::spawn("the health check", command).expect("it starts");
    let status = check.wait(BOUND).await.expect("it ends");
    let line = check
        .wait_for("a line", |_| true, BOUND)
        .await
        .expect("a line");
    (status.code(), line)
}

#[tokio::test]
async fn the_health_check_tells_whether_the_instance_of_its_configuration_is_ready() {
    let runtime = runtime();
    let port = Port::free().expect("a port");
    let admin = format!("127.0.0.1:{port}");
    let (code, line) = health_check(runtime.path(), &admin).await;
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&admin), "{line}");

    let mut running = command(runtime.path(), &[]);
    running.env("DISCOVERY__ADMIN__LISTEN", &admin);
    let _server = spawn(running).await;
    eventually(BOUND, "a health check that passes", async || {
        health_check(runtime.path(), &admin).await == (Some(0), "ready".to_owned())
    })
    .await;
}
