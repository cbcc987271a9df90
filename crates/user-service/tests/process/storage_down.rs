//! What callers and operators see while the storage is down.

use proto::user::v1::GetUserRequest;
use registry::Status;
use testkit::{Port, eventually, postgres::Postgres};
use tonic::Code;

use crate::running::{BOUND, Scene, bounded};

#[tokio::test]
async fn an_instance_whose_storage_is_down_is_not_serving_until_it_is_back() {
    let mut server = Postgres::start().await.expect("a server");
    let scene = Scene::new();
    let url = server.database().await.expect("a database");
    let service = scene.user_service(&url).await;
    scene.create("ann", "").await.expect("created");
    scene.becomes(&[Status::Serving]).await;

    server.kill().await.expect("it is gone");
    scene.becomes(&[Status::NotServing]).await;
    let page = service.admin_page("/readyz").await;
    assert!(
        page.contains("503") && page.contains("the storage cannot be used"),
        "{page}"
    );
    assert!(!page.contains(server.password()), "{page}");
    let metrics = service.admin_page("/metrics").await;
    let registered = metrics
        .lines()
        .find(|l| l.starts_with("discovery_registered"));
    assert!(
        registered.is_some_and(|line| line.ends_with(" 0")),
        "{registered:?}"
    );
    // Nobody else is there, so it serves who is connected to it as a last resort, and says what is wrong.
    let mut request = bounded(GetUserRequest {
        name: "users/ann".to_owned(),
    });
    request
        .extensions_mut()
        .insert(balance::WaitForReady(false));
    let down = scene
        .users
        .clone()
        .get_user(request)
        .await
        .expect_err("down");
    assert_eq!(down.code(), Code::Unavailable);

    server.restart().await.expect("it is back");
    scene.becomes(&[Status::Serving]).await;
    let again = bounded(GetUserRequest {
        name: "users/ann".to_owned(),
    });
    let found = scene.users.clone().get_user(again).await.expect("found");
    assert_eq!(found.get_ref().name, "users/ann");
    assert!(!service.output().contains(server.password()));
}

#[tokio::test]
async fn an_instance_that_starts_without_its_storage_registers_when_it_is_there() {
    let port = Port::free().expect("a port");
    let scene = Scene::new();
    let url = format!("postgres://ann:s3cr3t@{}/users", port.address());
    let service = scene.starting(&url, &[]);
    let told = service
        .process
        .wait_for_line("cannot be used yet", BOUND)
        .await;
    assert!(!told.expect("a warning").contains("s3cr3t"));
    let page = service.admin_page("/readyz").await;
    assert!(
        page.contains("503") && page.contains("the storage cannot be used"),
        "{page}"
    );
    assert_eq!(scene.statuses().await, []);
}

#[tokio::test]
async fn what_an_operator_drains_stays_drained_through_an_outage() {
    let mut server = Postgres::start().await.expect("a server");
    let scene = Scene::new();
    let url = server.database().await.expect("a database");
    let _service = scene.user_service(&url).await;
    scene.drains_one().await;
    scene.becomes(&[Status::Draining]).await;

    server.kill().await.expect("it is gone");
    scene.say_of_themselves(Status::NotServing).await;
    assert_eq!(scene.statuses().await, [Status::Draining]);
    server.restart().await.expect("it is back");
    scene.say_of_themselves(Status::Serving).await;
    assert_eq!(scene.statuses().await, [Status::Draining]);
}

#[tokio::test]
async fn a_session_that_is_ended_takes_no_instance_out() {
    let server = Postgres::start().await.expect("a server");
    let scene = Scene::new();
    let url = server.database().await.expect("a database");
    let service = scene.user_service(&url).await;
    // Each is gone when this returns, that of the look among them.
    let end = "SELECT count(pg_terminate_backend(pid, 30000)) FROM pg_stat_activity \
        WHERE application_name = 'user-service'";
    let looks = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'user-service' AND query LIKE '%FROM users LIMIT 1%'";
    for _ in 0..3 {
        server.sql(&url, end).await.expect("ended");
        eventually(BOUND, "another look", async || {
            server.sql(&url, looks).await.expect("an answer") == "1"
        })
        .await;
    }
    assert_eq!(scene.statuses().await, [Status::Serving]);
    let said = service.output();
    assert!(!said.contains("the storage cannot be used"), "{said}");
}

#[tokio::test]
async fn an_instance_whose_storage_only_reads_is_not_serving_until_it_writes_again() {
    let server = Postgres::start().await.expect("a server");
    let scene = Scene::new();
    let url = server.database().await.expect("a database");
    let service = scene.user_service(&url).await;
    // It holds for sessions that are there too: none of them ends.
    let only_reads = async |setting: &str| {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {setting}");
        server.sql(&url, &set).await.expect("set");
        let read_again = server.sql(&url, "SELECT pg_reload_conf()").await;
        assert_eq!(read_again.expect("an answer"), "t");
    };
    only_reads("on").await;
    scene.becomes(&[Status::NotServing]).await;
    let page = service.admin_page("/readyz").await;
    assert!(page.contains("the storage cannot be used"), "{page}");
    only_reads("off").await;
    scene.becomes(&[Status::Serving]).await;
    scene.create("ann", "").await.expect("created");
}
