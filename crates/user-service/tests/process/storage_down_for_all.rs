//! What callers see when the storage that several instances share is down, so that none of them serves.

use balance::Channel;
use proto::user::v1::{GetUserRequest, user_service_client::UserServiceClient};
use registry::Status;
use testkit::{eventually, postgres::Postgres, process::Process};
use tonic::Code;

use crate::running::{BOUND, Scene, bounded};

/// Below half of the instances, all are used.
const PANIC_THRESHOLD: &str = r#"{"loadBalancingConfig": [{"panic_threshold": {
    "healthyPercent": 50, "childPolicy": [{"round_robin": {}}]
}}]}"#;

/// Three instances of which an operator drains one.
const ALL_WELL: [Status; 3] = [Status::Draining, Status::Serving, Status::Serving];
/// The same while their storage is down.
const ALL_DOWN: [Status; 3] = [Status::Draining, Status::NotServing, Status::NotServing];

/// A caller that begins now: it is connected to nobody.
fn caller(scene: &Scene, service_config: &str) -> Channel {
    let channel = Channel::builder("user").registry(&scene.registry);
    let channel = channel.service_config(service_config).build();
    channel.expect("a channel")
}

/// Asks for a user, without waiting for an instance that could answer.
async fn get(channel: &Channel) -> Result<String, tonic::Status> {
    let mut request = bounded(GetUserRequest {
        name: "users/ann".to_owned(),
    });
    let without_waiting = balance::WaitForReady(false);
    request.extensions_mut().insert(without_waiting);
    let mut users = UserServiceClient::new(channel.clone());
    let found = users.get_user(request).await;
    found.map(|found| found.into_inner().name)
}

#[tokio::test]
async fn when_all_are_down_a_panic_threshold_has_all_be_asked_but_those_that_an_operator_drains() {
    let mut server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let scene = Scene::new();
    let _services = tokio::join!(
        scene.user_service(&url),
        scene.user_service(&url),
        scene.user_service(&url)
    );
    scene.create("ann", "").await.expect("created");
    let drained = scene.drains_one().await;
    let drained = drained.as_str();
    scene.becomes(&ALL_WELL).await;
    server.kill().await.expect("it is gone");
    scene.say_of_themselves(Status::NotServing).await;
    assert_eq!(scene.statuses().await, ALL_DOWN);

    let panicking = caller(&scene, PANIC_THRESHOLD);
    eventually(BOUND, "both to be asked", async || {
        let down = get(&panicking).await.expect_err("the storage is down");
        assert_eq!(down.code(), Code::Unavailable);
        assert_eq!(down.message(), "the storage cannot be used");
        let explained = panicking.explain();
        assert!(explained.panicking);
        let asked = explained.endpoints.iter().filter(|one| one.picks > 0);
        asked.count() == 2
    })
    .await;

    // Without one nobody is asked, and that is what the caller is told.
    let strict = caller(&scene, "{}");
    let nobody = get(&strict).await.expect_err("nobody serves");
    assert_eq!(nobody.code(), Code::Unavailable);
    let why = nobody.message();
    assert!(
        why.starts_with("none of the 3 instances of user in "),
        "{why}"
    );
    let explained = strict.explain();
    assert_eq!(
        (explained.endpoints.len(), explained.left_out.len()),
        (0, 3)
    );

    // Who asks by hand learns why.
    let admin = scene.command("user-service", &["admin", "--timeout", "30s", "get", "ann"]);
    let admin = Process::spawn("user-service admin", admin).expect("it starts");
    let why = admin
        .wait_for_line("the storage cannot be used", BOUND)
        .await;
    why.expect("the cause");
    assert!(!admin.wait(BOUND).await.expect("it ends").success());

    server.restart().await.expect("it is back");
    scene.say_of_themselves(Status::Serving).await;
    assert_eq!(scene.statuses().await, ALL_WELL);
    for channel in [panicking, strict] {
        eventually(BOUND, "both to be asked", async || {
            get(&channel).await.is_ok_and(|name| name == "users/ann")
                && channel.explain().endpoints.iter().all(|one| one.picks > 0)
        })
        .await;
        let left_out = channel.explain().left_out;
        assert!(left_out.iter().any(|one| one.id == drained), "{left_out:?}");
    }
}
