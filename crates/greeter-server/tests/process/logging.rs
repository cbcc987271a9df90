//! What is logged, and that it can be changed while the server runs.

use tonic::Request;

use crate::running::{BOUND, Running, command, hello, runtime, spawn, start};

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
