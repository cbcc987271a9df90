//! What is logged, and that it can be changed while the server runs.

use std::{collections::BTreeSet, process::Command};

use proto::helloworld::greeter_client::GreeterClient;
use testkit::{eventually, process::Process};
use tonic::Request;

use crate::running::{BOUND, Running, command, connect, hello, runtime, spawn, start};

const PAGE: &str = "/admin/log-level";
/// What is logged of a call at `debug`.
const CALL: &str = "started processing request";

/// The status and the text of an answer of the admin page.
async fn ask(server: &Running, method: &str, body: &str) -> (String, String) {
    let answer = server.ask_admin(method, PAGE, body).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.to_owned(), body.to_owned())
}

fn logged(server: &Running, text: &str) -> usize {
    let lines = server.process.output();
    lines.iter().filter(|line| line.text.contains(text)).count()
}

#[tokio::test]
async fn calls_are_logged_from_when_the_level_is_debug_until_it_is_not() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    let answer = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    assert_eq!(ask(&server, "GET", "").await, answer("200", "info\n"));
    server.greets("unheard").await;

    let debug = "info,tower_http=debug";
    let (status, body) = ask(&server, "PUT", debug).await;
    assert_eq!(status, "200", "{body}");
    assert_eq!(ask(&server, "GET", "").await, answer("200", &body));
    server.greets("heard").await;
    let line = server.process.wait_for_line(CALL, BOUND).await;
    let line: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(logged(&server, CALL), 1);

    // What is logged later is in the output later: when the last line is there, none of a call is missing.
    assert_eq!(ask(&server, "PUT", "warn").await, answer("200", "warn\n"));
    server.greets("unheard").await;
    assert_eq!(ask(&server, "PUT", "info").await, answer("200", "info\n"));
    let last = server.process.wait_for_line(r#""filter":"info""#, BOUND);
    last.await.expect("a line");
    assert_eq!(logged(&server, CALL), 1);
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused_with_what_is_wrong_and_changes_nothing() {
    let runtime = runtime();
    let server = start(&runtime, &[]).await;
    for bad in ["balance=loud", ""] {
        let (status, body) = ask(&server, "PUT", bad).await;
        assert_eq!(status, "400", "{body}");
        assert!(body.contains(&format!("{bad:?} is no filter")), "{body}");
    }
    let long = "a".repeat(5000);
    assert_eq!(ask(&server, "PUT", &long).await.0, "413");
    assert_eq!(ask(&server, "DELETE", "").await.0, "405");
    assert_eq!(ask(&server, "GET", "").await.1, "info\n");
}

#[tokio::test]
async fn each_line_of_a_call_tells_its_trace_and_whether_that_is_sampled() {
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let runtime = runtime();
    let mut command = command(runtime.path(), &[]);
    command.env("DISCOVERY__LOG__LEVEL", "info,tower_http=debug");
    let server = spawn(command).await;
    for flags in ["00", "01"] {
        let mut request = Request::new(hello("you"));
        let parent = format!("00-{trace}-{span}-{flags}");
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", parent.parse().expect("a value"));
        let reply = server.greeter().say_hello(request).await;
        reply.expect("a greeting");
    }
    let sampled = r#""trace_flags":"01""#;
    let last = server.process.wait_for_line(sampled, BOUND).await;
    last.expect("a line of the last call");
    let began = server.process.output();
    let began = began.iter().filter(|line| line.text.contains(CALL));
    let told: Vec<_> = began
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.text).expect("JSON");
            ["trace_id", "span_id", "trace_flags"].map(|key| line[key].clone())
        })
        .collect();
    // Without a collector there is no span of the server's own.
    assert_eq!(told, ["00", "01"].map(|flags| [trace, span, flags]));
}

#[tokio::test]
async fn each_line_of_a_call_tells_its_trace_though_nobody_has_begun_one() {
    let runtime = runtime();
    let mut command = command(runtime.path(), &[]);
    command.env("DISCOVERY__LOG__LEVEL", "info,tower_http=debug");
    let server = spawn(command).await;
    for _ in 0..2 {
        let reply = server.greeter().say_hello(hello("you")).await;
        reply.expect("a greeting");
    }
    let mut traces = BTreeSet::new();
    eventually(BOUND, "the lines of two traces", async || {
        traces.clear();
        let lines = server.process.output();
        for line in lines.iter().filter(|line| line.text.contains(CALL)) {
            let line: serde_json::Value = serde_json::from_str(&line.text).expect("JSON");
            assert_eq!(line["trace_flags"], "00", "{line}");
            traces.insert(line["trace_id"].as_str().expect("an id").to_owned());
        }
        traces.len() == 2
    })
    .await;
}

#[tokio::test]
async fn on_a_terminal_each_line_is_compact_text_that_tells_its_trace_at_the_end() {
    let runtime = runtime();
    // It gives its child a terminal, and copies what is written there.
    let mut terminal = Command::new("script");
    terminal
        .args(["--quiet", "--return", "--command"])
        .args([env!("CARGO_BIN_EXE_greeter-server"), "/dev/null"])
        .env("XDG_RUNTIME_DIR", runtime.path())
        .env("DISCOVERY__LOG__LEVEL", "info,tower_http=debug")
        .env("NO_COLOR", "1");
    let server = Process::spawn("greeter-server", terminal).expect("it starts");
    let listening = " INFO service_kit::service: listening on ";
    let line = server.wait_for_line(listening, BOUND).await;
    let line = line.expect("a line");
    let (_, said) = line.split_once(listening).expect("it was waited for");
    let address = said.split(' ').next().expect("an address");

    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = Request::new(hello("you"));
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", parent.parse().expect("a value"));
    let mut greeter = GreeterClient::new(connect(address).await);
    greeter.say_hello(request).await.expect("a greeting");

    let line = server.wait_for_line(CALL, BOUND).await.expect("a line");
    let ids = "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 trace_flags=01";
    assert!(
        line.contains(" DEBUG ") && line.trim_end().ends_with(ids),
        "{line}"
    );
    for line in server.output() {
        let text = &line.text;
        assert!(!text.starts_with('{') && !text.contains('\x1b'), "{text}");
    }
}
