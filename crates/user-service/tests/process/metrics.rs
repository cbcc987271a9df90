//! The page of metrics of a service that serves and calls.

use testkit::{eventually, prometheus::promtool};

use crate::running::{BOUND, Scene};

/// Of calls that it has served, and of one that it has made.
const COUNTS: [&str; 3] = [
    r#"rpc_method="user.v1.UserService/CreateUser""#,
    r#"rpc_method="user.v1.UserService/GreetUser""#,
    r#"server_address="greeter""#,
];

#[tokio::test]
async fn promtool_finds_no_fault_with_the_page_of_a_service_that_calls_another() {
    let scene = Scene::new();
    let _greeter = scene.greeter().await;
    let service = scene.user_service("").await;
    scene.create("ann", "").await.expect("created");
    scene.greet("ann").await.expect("greeted");
    let page = async || {
        let answer = service.admin_page("/metrics").await;
        let page = answer
            .split_once("\r\n\r\n")
            .map(|(_, page)| page.to_owned());
        page.expect("a page")
    };
    // A call is counted once its last byte has gone.
    eventually(BOUND, "calls that are counted", async || {
        let page = page().await;
        COUNTS.iter().all(|count| page.contains(count))
    })
    .await;
    let lint = promtool(&["check", "metrics"], &page().await).await;
    assert_eq!(lint.expect("promtool finds no fault"), "");
}
